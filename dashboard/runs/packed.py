"""The packed layout: the events of a rank as Parquet, of which a reader takes what it needs.

A recording is an Arrow stream, which has to be read from its beginning; on an object store that is
all of it. `rank-00000.parquet` holds the same rows, in order of `start`, in groups that can be
fetched one by one, column by column. Times are raw, as in the stream. docs/trace-format.md has it
in full.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.problems import less_its_file
from dashboard.runs.stores import Store
from tracer.errors import DamagedTrace, NewerFormat, NotATrace
from tracer.rows import possible_rows
from tracer.schema import EVENT_SCHEMA, FORMAT_VERSION
from tracer.streams import StreamContent
from tracer.text import plain_text

NAME: Final = re.compile(r"rank-([0-9]{5,7})\.parquet")

ROWS: Final = 16_384
"""In a group: some 120 kB, twenty to a hundred steps. Groups that lie side by side are fetched with
one request, so that small ones cost nothing but the kilobyte that the footer has on each."""
_WORDS: Final = [f.name for f in EVENT_SCHEMA if pa.types.is_dictionary(f.type)]
_COUNTING: Final = dict.fromkeys(
    ("start", "step", "seq", "correlation", "microbatch", "stage"), "DELTA_BINARY_PACKED"
)
"""Numbers that go up by little from row to row."""
_ALLOWED_BYTES: Final = 64 << 20
_ALLOWED_RATIO: Final = 2_000
"""Rows that take more memory than so many times their file were not recorded."""
_ROW_BYTES: Final = 110
_WHOLE: Final = 256 << 10
"""Bytes of a file that is fetched at once: a round trip takes longer than these."""


def packed_file(rank: int) -> str:
    """`rank-00003.parquet`: the packed events of one rank."""
    return f"rank-{rank:05d}.parquet"


def pack(stream: StreamContent, sink: pa.NativeFile, *, rows: int = ROWS) -> None:
    """Write the rows of a stream to `sink`, with what was found wrong with it."""
    import pyarrow.parquet as pq  # where it is needed: a run as recorded does without

    start = stream.table["start"].to_numpy()
    table = stream.table
    if len(start) > 1 and not bool((start[1:] >= start[:-1]).all()):
        table = table.take(pa.array(np.argsort(start, kind="stable")))
    said = {
        "problem": _without_path(stream, stream.problem),
        "left_out": _without_path(stream, stream.left_out),
        "ends": _ends(table, rows),
        "bytes": stream.bytes_read,
    }
    metadata = dict(table.schema.metadata or {}) | {b"rankscope.packed": json.dumps(said).encode()}
    table = table.replace_schema_metadata(metadata)
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=6,
        use_dictionary=_WORDS,
        column_encoding=_COUNTING,
        write_statistics=["start", "step"],
    ) as writer:
        if table.num_rows:  # of no rows there is no group, and nothing in `ends`
            writer.write_table(table, row_group_size=rows)


class PackedRank:
    """One `rank-00000.parquet`: its facts, and any of its columns and groups of rows.

    run_id, rank, rows, problem, left_out: as of the stream that it was made of.
    bytes: of the stream; it only grows, so that one of as many bytes is the same.
    fetched: how many bytes were asked for, its footer aside.

    Raises:
        FileNotFoundError: there is none.
        NotATrace, NewerFormat, DamagedTrace: it is not ours, too new, or unreadable.
        TraceError: the store cannot be read.
    """

    def __init__(self, store: Store, name: str) -> None:
        import pyarrow.parquet as pq

        self.name = name
        self._where = f"{store}/{name}"
        self.fetched = 0
        source = store.open(name)
        size = source.size()
        if size <= _WHOLE:
            source = pa.BufferReader(source.read())
            self.fetched = size
        self._is_whole = size <= _WHOLE
        try:
            self._file = pq.ParquetFile(source, pre_buffer=True)
            self._schema = self._file.schema_arrow
        except (pa.ArrowException, OSError, ValueError) as error:
            raise NotATrace(f"{self._where}: not a Parquet file ({_first_line(error)})") from error
        self._check(size)
        self.rows: int = self._file.metadata.num_rows
        self.run_id = plain_text(self._said("run_id"))
        self.rank = int(self._said("rank"))
        try:
            packed: dict[str, Any] = json.loads(self._said("packed"))
            self.problem = None if packed["problem"] is None else plain_text(packed["problem"])
            self.left_out = None if packed["left_out"] is None else plain_text(packed["left_out"])
            self.ends = tuple(int(end) for end in packed["ends"])
            self.bytes = int(packed["bytes"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"its own facts are unreadable ({error})") from error
        if len(self.ends) != self._file.num_row_groups:
            raise self._damaged("its groups of rows are not those that it names")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows of each group."""
        groups = range(self._file.num_row_groups)
        return tuple(self._file.metadata.row_group(group).num_rows for group in groups)

    @property
    def starts(self) -> tuple[int | None, ...]:
        """The first start of each group, raw ns; None where the file does not say."""
        place = EVENT_SCHEMA.get_field_index("start")
        groups = (self._file.metadata.row_group(g) for g in range(self._file.num_row_groups))
        known = (group.column(place).statistics for group in groups)
        return tuple(k.min if k is not None and k.has_min_max else None for k in known)

    def groups_with(self, steps: Collection[int]) -> tuple[int, ...]:
        """The groups in which there may be rows of these steps."""
        if not steps:
            return ()
        wanted = np.array(sorted(steps))
        place = EVENT_SCHEMA.get_field_index("step")
        found = []
        for group in range(self._file.num_row_groups):
            known = self._file.metadata.row_group(group).column(place).statistics
            if known is None or not known.has_min_max:
                if known is None or known.null_count != self.lengths[group]:
                    found.append(group)
            elif np.searchsorted(wanted, known.min) < np.searchsorted(wanted, known.max, "right"):
                found.append(group)
        return tuple(found)

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """These columns of these groups of rows, raw times.

        Raises:
            DamagedTrace: the file is damaged, or holds what cannot be.
        """
        try:
            table = self._file.read_row_groups(list(groups), columns=list(columns))
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(_first_line(error)) from error
        if not self._is_whole:
            self.fetched += self._bytes_of(groups, columns)
        schema = pa.schema([EVENT_SCHEMA.field(name) for name in columns])
        table = table.select(list(columns)).cast(schema).unify_dictionaries()
        possible, reasons = possible_rows(table)
        if possible.num_rows < table.num_rows:
            raise self._damaged("rows that cannot be: " + "; ".join(reasons))
        if "start" in columns and len(possible) > 1:
            start = possible["start"].to_numpy()
            if not bool((start[1:] >= start[:-1]).all()):
                raise self._damaged("its rows are not in order of start")
        return possible

    def _bytes_of(self, groups: Sequence[int], columns: Sequence[str]) -> int:
        places = [EVENT_SCHEMA.get_field_index(name) for name in columns]
        chosen = [self._file.metadata.row_group(group) for group in groups]
        return sum(g.column(place).total_compressed_size for g in chosen for place in places)

    def _check(self, size: int) -> None:
        if self._said("content") != "events":
            raise NotATrace(f"{self._where}: is no packed rank of Rankscope")
        version = self._said("format_version")
        if not version.isdecimal() or int(version) > FORMAT_VERSION:
            raise NewerFormat(
                f"{self._where}: format version {plain_text(version)}, this Rankscope reads up to "
                f"{FORMAT_VERSION}; upgrade with `pip install -U rankscope`"
            )
        if [(f.name, f.type) for f in self._schema] != [(f.name, f.type) for f in EVENT_SCHEMA]:
            raise self._damaged("its columns are not those of the format")
        if not self._said("rank").isdecimal():
            raise self._damaged("names no rank")
        if self._file.metadata.num_rows * _ROW_BYTES > _ALLOWED_BYTES + _ALLOWED_RATIO * size:
            raise self._damaged(f"claims {self._file.metadata.num_rows:,} rows in {size:,} bytes")

    def _said(self, key: str) -> str:
        raw: bytes = (self._schema.metadata or {}).get(f"rankscope.{key}".encode(), b"")
        return raw.decode(errors="replace")

    def _damaged(self, why: str) -> DamagedTrace:
        return DamagedTrace(f"{self._where}: {why}; pack this rank anew with `rankscope gather`")


def _ends(table: pa.Table, rows: int) -> list[int]:
    """The last end of each group of rows, ns."""
    ends = pc.add(table["start"], table["duration"])
    return [pc.max(ends.slice(begin, rows)).as_py() for begin in range(0, table.num_rows, rows)]


def _without_path(stream: StreamContent, said: str | None) -> str | None:
    return None if said is None else less_its_file(stream.path, said)


def _first_line(error: BaseException) -> str:
    return plain_text(next(iter(str(error).splitlines()), type(error).__name__))
