"""An SQLite export of Nsight Systems, opened as data: read only, no extensions, bounded work.

Tables are made lazily and their columns vary by version, so each is looked up before it is used.
Source of tables and columns: "SQLite Export Schema Reference" in the Nsight Systems documentation.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tracer.errors import DamagedTrace, UsageError
from tracer.text import plain_text

PROCESS: Final = ~0xFFFFFF
"""The bits of a `globalTid` that are its `globalPid` (the rest is the thread): the documentation
of Nsight Systems, "Serialized process and thread identifiers"."""
MAGIC: Final = b"SQLite format 3\x00"
_LONGEST_VALUE: Final = 16 << 20
_LONGEST_NAME: Final = 200
"""Names of templated kernels run to thousands of characters."""
_INSTRUCTIONS: Final = 100_000
"""Of SQLite's machine, between two looks at how many there were."""
_TOLD: Final = 8192
"""Rows between two reports of progress."""
_PER_BYTE: Final = 100
_ALLOWED: Final = 1_000_000_000
"""Instructions that are always allowed; a row takes some dozens, with a join or a sort hundreds."""
_PLAIN_TABLE: Final = re.compile(r"\s*CREATE\s+TABLE\s", re.IGNORECASE)
_MOST_TABLES: Final = 10_000


class NsysDatabase:
    """One export; use it as a context manager.

    Attributes:
        path: the file.
        columns: table → its columns, of ordinary tables alone (no views, no virtual tables).

    Raises:
        DamagedTrace: it is no SQLite file, or a damaged one.
        UsageError: it is a report that was not exported yet.
    """

    def __init__(self, path: Path, on_rows: Callable[[int], None] = lambda rows: None) -> None:
        self.path = path
        self._on_rows = on_rows
        self.columns: dict[str, frozenset[str]] = {}
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                if path.suffix in (".nsys-rep", ".qdrep", ".qdstrm"):
                    raise UsageError(
                        f"{path}: a report of Nsight Systems; export it first: "
                        f"nsys export --type sqlite {path.name}"
                    )
                raise DamagedTrace(f"{path}: not an SQLite file; export the report again")
        self._rows_allowed = path.stat().st_size
        self._left = _ALLOWED + _PER_BYTE * path.stat().st_size
        where = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(where, uri=True, isolation_level=None)
        try:
            self._restrict()
            self._look_up_tables()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> NsysDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is such a table with all these columns."""
        return table in self.columns and self.columns[table].issuperset(columns)

    def rows(
        self, table: str, wanted: Sequence[str], rest: str = "", *, first: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of a table, in the file's order; null for a column that this version lacks.

        A column `name:text` is an id of `StringIds`, and its text is given. `rest` follows the
        table, which goes by `t`; `first` are columns of what it joins.

        Raises:
            DamagedTrace: the file is damaged, or gives more rows than it can hold.
        """
        if table not in self.columns:
            return
        known = self.columns[table]
        fields, joins = [first] if first else [], []
        for number, column in enumerate(wanted):
            name, _, is_text = column.partition(":")
            if name not in known and name != "rowid":
                fields.append("NULL")
            elif is_text:
                fields.append(f"substr(s{number}.value, 1, {_LONGEST_NAME})")
                joins.append(f'LEFT JOIN StringIds s{number} ON s{number}.id = t."{name}"')
            else:
                fields.append(f't."{name}"')
        if joins and not self.has("StringIds", "id", "value"):
            raise DamagedTrace(f"{self.path}: has no table StringIds; export the report again")
        sql = f'SELECT {", ".join(fields or ["1"])} FROM "{table}" t {" ".join(joins)} {rest}'
        try:
            for count, row in enumerate(self._connection.execute(sql)):
                if count % _TOLD == _TOLD - 1:
                    self._on_rows(_TOLD)
                if count > self._rows_allowed:
                    raise DamagedTrace(f"{self.path}: {table} has more rows than the file bytes")
                yield row
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def launched(self, table: str, wanted: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Rows of a table of work on the device, each with its launch before it: thread, start and
        end of the call of CUDA, null where there is none.
        """
        calls = "CUPTI_ACTIVITY_KIND_RUNTIME"
        tied = self.has(table, "correlationId", "globalPid")
        if not (tied and self.has(calls, "correlationId", "globalTid", "start", "end")):
            yield from self.rows(table, wanted, first="NULL, NULL, NULL")
            return
        before = None
        join = (
            f"LEFT JOIN {calls} r ON r.correlationId = t.correlationId "
            f"AND (r.globalTid & {PROCESS}) = t.globalPid"
        )
        for row in self.rows(table, wanted, join, first='t.rowid, r.globalTid, r.start, r."end"'):
            if row[0] != before:  # a launch may be there as a call of the runtime and the driver
                before = row[0]
                yield row[1:]

    def size(self, *tables: str) -> int:
        """About how many rows these tables have, known at once."""
        sizes = [self.value(table, "rowid", "ORDER BY rowid DESC") for table in tables]
        return sum(size for size in sizes if type(size) is int and size > 0)

    def value(self, table: str, column: str, rest: str = "") -> Any:
        """The column of the first row, or None."""
        if table not in self.columns:
            return None
        first = next(self.rows(table, [column], f"{rest} LIMIT 1"), None)
        return None if first is None else first[0]

    def _restrict(self) -> None:
        connection = self._connection
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
        connection.set_progress_handler(self._too_long, _INSTRUCTIONS)
        connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
        for pragma in ("query_only = 1", "trusted_schema = 0", "cell_size_check = 1"):
            connection.execute(f"PRAGMA {pragma}")

    def _too_long(self) -> bool:
        self._left -= _INSTRUCTIONS
        return self._left < 0

    def _look_up_tables(self) -> None:
        try:
            found = self._connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
            ).fetchmany(_MOST_TABLES)
            for name, sql in found:
                if isinstance(sql, str) and _PLAIN_TABLE.match(sql) and '"' not in name:
                    info = self._connection.execute(f'PRAGMA table_info("{name}")').fetchall()
                    self.columns[name] = frozenset(str(column[1]) for column in info)
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> DamagedTrace:
        why = plain_text(str(error))
        if self._left < 0:
            why = "reading it takes more work than a file of this size can need"
        return DamagedTrace(f"{self.path}: damaged ({why}); export the report again")
