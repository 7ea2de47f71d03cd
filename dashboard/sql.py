"""SQL over runs: DuckDB on the Arrow tables, read-only, without files or network.

Only the views that a query names are made. A query has to end within `TIME_LIMIT_S`, stay under
`MEMORY_LIMIT`, and answer with at most `ROW_LIMIT` rows and `ANSWER_LIMIT` bytes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from dashboard.analysis.results import Result
from dashboard.analysis.run_names import distinct_names
from dashboard.analysis.whole_run.views import VIEWS
from dashboard.runs import Recording
from tracer.errors import UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["VIEWS", "QueryResult", "query"]

TIME_LIMIT_S: Final = 60.0
MEMORY_LIMIT: Final = "2GB"
ROW_LIMIT: Final = 1_000_000
"""More rows are an export, not an answer."""
ANSWER_LIMIT: Final = 512 << 20
"""Bytes of the answer, which lies outside of DuckDB's memory."""
_BATCH_ROWS: Final = 10_000


@dataclass(frozen=True)
class QueryResult(Result):
    """The rows of a query; `is_cut`: there are more of them than were asked for."""

    table: pa.Table
    is_cut: bool = False

    def to_pylist(self) -> list[dict[str, Any]]:
        """As a list of dictionaries."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    def __repr__(self) -> str:
        return str(duckdb.from_arrow(self.table))


def query(
    runs: Recording | Sequence[Recording],
    text: str,
    *,
    most_rows: int | None = None,
    time_limit_s: float | None = None,
) -> QueryResult:
    """Run one SELECT over one or several runs; every view's first column, `run`, tells them apart.

    most_rows: give the first ones only, and say if there are more (`is_cut`).
    time_limit_s: `TIME_LIMIT_S` by default.

    Raises:
        UsageError: it is not one SELECT, it is wrong, or it exceeded a limit.
    """
    chosen = [runs] if isinstance(runs, Recording) else list(runs)
    limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
    with duckdb.connect(":memory:") as connection:
        for name in _named(text):
            connection.register(name, view(chosen, name))
        _lock(connection)
        try:
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UsageError("a query is one SELECT statement; nothing else is allowed here")
            with _interrupted_after(connection, limit_s):
                return _rows(connection, text, most_rows)
        except duckdb.InterruptException as error:
            raise UsageError(f"the query took over {limit_s:.0f} s: narrow it") from error
        except duckdb.OutOfMemoryException as error:
            raise UsageError(f"the query needs over {MEMORY_LIMIT} of memory: narrow it") from error
        except duckdb.Error as error:
            views = ", ".join(VIEWS)
            raise UsageError(f"{str(error).splitlines()[0]} (views: {views})") from error


def view(runs: Sequence[Recording], name: str) -> pa.Table:
    """A view over all `runs`, with their names in a first column `run`.

    Before (two runs)          After
    a: rank=0 step=7           run=a rank=0 step=7
    b: rank=0 step=7           run=b rank=0 step=7
    """
    names = pa.array(distinct_names(runs), pa.string())
    parts = []
    for number, run in enumerate(runs):
        table = VIEWS[name](run)
        places = pa.array(np.full(table.num_rows, number, np.int32))
        column = pa.DictionaryArray.from_arrays(places, names)
        parts.append(table.add_column(0, "run", column))
    return pa.concat_tables(parts, promote_options="permissive").unify_dictionaries()


def _named(text: str) -> list[str]:
    words = set(re.findall(r"\w+", text.lower()))
    return [name for name in VIEWS if name in words]


def _lock(connection: DuckDBPyConnection) -> None:
    """From here on no file, no network, no Python variable, and no way to change that.

    Without a temporary directory a query that needs more memory fails; with one, it would write
    what does not fit into the working directory, outside of what `enable_external_access` forbids.
    """
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute("SET temp_directory = ''")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextmanager
def _interrupted_after(connection: DuckDBPyConnection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _rows(connection: DuckDBPyConnection, text: str, most_rows: int | None) -> QueryResult:
    """The answer, batch by batch, so that one without end is stopped when it is too long."""
    found = connection.sql(text)
    if most_rows is not None:
        found = found.limit(most_rows + 1)
    reader = found.to_arrow_reader(_BATCH_ROWS)
    batches, rows, size = [], 0, 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows > ROW_LIMIT:
            raise UsageError(f"the answer has over {ROW_LIMIT:,} rows: aggregate or add a limit")
        if size > ANSWER_LIMIT:
            raise UsageError(f"the answer is over {ANSWER_LIMIT >> 20} MB: narrow it")
    table = pa.Table.from_batches(batches, schema=reader.schema)
    if most_rows is None:
        return QueryResult(table)
    return QueryResult(table.slice(0, most_rows), is_cut=table.num_rows > most_rows)
