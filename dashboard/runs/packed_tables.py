"""The events of a packed run by rank, of which only what is asked for is fetched, and once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa

from dashboard.runs.clock_map import ClockMap
from dashboard.runs.columns import Test
from dashboard.runs.opened import KEPT_BYTES
from dashboard.runs.packed import PackedRank
from tracer.schema import EVENT_SCHEMA

_COLUMNS: Final = tuple(EVENT_SCHEMA.names)
_FILES: Final = 128
"""Kept open; a process may have a thousand."""
_GROUPS: Final = 8
"""Of rows, in memory together where not all are kept: as many as of a recorded stream."""
_Place = tuple[int, int, str]
"""Rank, group of rows, column."""


class PackedTables(Mapping[int, pa.Table]):
    """Events by rank, on the common clock. Columns are kept, as many as `kept_bytes` hold.

    begin: the common clock's time, in ns, from which `start` counts.
    fetched: how many bytes of columns have been asked for.
    """

    def __init__(
        self,
        maps: Mapping[int, ClockMap],
        begin: int,
        open_rank: Callable[[int], PackedRank],
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._maps = dict(maps)
        self._begin = begin
        self._open_rank = open_rank
        self.kept_bytes = kept_bytes
        self._opened: dict[int, PackedRank] = {}
        self._kept: dict[_Place, pa.ChunkedArray] = {}
        self._bytes = 0
        self.fetched = 0
        self._lock = Lock()

    def __getitem__(self, rank: int) -> pa.Table:
        return self.part(rank, _COLUMNS, None)

    def once(self, rank: int) -> pa.Table:
        """See `Once` (columns.py)."""
        maps = {rank: self._maps[rank]}
        alone = PackedTables(maps, self._begin, self._open_rank, kept_bytes=0)
        table = alone[rank]
        self.fetched += alone.fetched
        return table

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._maps))

    def __len__(self) -> int:
        return len(self._maps)

    def part(
        self,
        rank: int,
        columns: Collection[str],
        steps: Collection[int] | None,
        kinds: Collection[str] | None = None,
        lanes: Test | None = None,
    ) -> pa.Table:
        """See `ByColumn` (columns.py)."""
        with self._lock:
            packed = self._rank(rank)
            groups = range(len(packed.ends)) if steps is None else packed.groups_with(steps)
        return self.groups(rank, columns, groups)

    def in_parts(
        self, rank: int, columns: Collection[str], take: Callable[[pa.Table], None]
    ) -> None:
        """See `InParts` (columns.py); nothing is kept."""
        maps = {rank: self._maps[rank]}
        alone = PackedTables(maps, self._begin, self._open_rank, kept_bytes=0)
        groups = range(len(alone.rank(rank).ends))
        for first in range(0, max(len(groups), 1), _GROUPS):
            take(alone.groups(rank, columns, groups[first : first + _GROUPS]))
        self.fetched += alone.fetched

    def groups(self, rank: int, columns: Collection[str], groups: Sequence[int]) -> pa.Table:
        """`rank` and these columns of these groups of rows."""
        clock = self._maps[rank]
        wanted = [name for name in _COLUMNS if name in columns]
        moved = "duration" in wanted and len(clock.times) > 1
        needed = wanted if "start" in wanted or not moved else ["start", *wanted]
        with self._lock:
            raw = self._raw(self._rank(rank), rank, needed, groups)
        table = raw.select(wanted) if wanted else raw
        if "start" in needed:
            start = raw["start"].to_numpy()
            begin = clock.to_common(start)
            if moved:
                length = clock.to_common(start + raw["duration"].to_numpy()) - begin
                table = _with(table, "duration", length)
            if "start" in wanted:
                table = _with(table, "start", begin - self._begin)
        ranks = pa.array(np.full(raw.num_rows, rank, np.int32))
        return table.add_column(0, "rank", ranks)

    def rank(self, rank: int) -> PackedRank:
        """The file of a rank."""
        with self._lock:
            return self._rank(rank)

    def groups_within(self, rank: int, begin: int, end: int) -> tuple[int, ...]:
        """The groups in which there may be events that reach into [begin, end], on the common
        clock.
        """
        packed, clock = self.rank(rank), self._maps[rank]
        found = []
        for group, (first, last) in enumerate(zip(packed.starts, packed.ends, strict=True)):
            edges = clock.to_common(np.array([last if first is None else first, last]))
            starts, ends = (edges - self._begin).tolist()
            if ends >= begin and (first is None or starts <= end):
                found.append(group)
        return tuple(found)

    def _rank(self, rank: int) -> PackedRank:
        if rank not in self._maps:
            raise KeyError(rank)
        packed = self._opened.pop(rank, None) or self._open_rank(rank)
        self._opened[rank] = packed
        if len(self._opened) > _FILES:
            del self._opened[next(iter(self._opened))]
        return packed

    def _raw(
        self, packed: PackedRank, rank: int, columns: Sequence[str], groups: Sequence[int]
    ) -> pa.Table:
        """The columns as they are in the file; `step` stands in where none is named, since rows
        have to be counted.
        """
        names = list(columns) or ["step"]
        absent = {
            g: tuple(name for name in names if (rank, g, name) not in self._kept) for g in groups
        }
        for missing in dict.fromkeys(filter(None, absent.values())):
            self._keep(rank, packed, [g for g in groups if absent[g] == missing], missing)
        schema = pa.schema([EVENT_SCHEMA.field(name) for name in names])
        parts = [schema.empty_table()]
        for group in groups:
            found = {name: self._kept.pop((rank, group, name)) for name in names}
            self._kept |= {(rank, group, name): column for name, column in found.items()}
            parts.append(pa.table(found, schema=schema))
        table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        self._forget()
        return table

    def _keep(
        self, rank: int, packed: PackedRank, groups: Sequence[int], columns: Sequence[str]
    ) -> None:
        before = packed.fetched
        table = packed.read(groups, columns)
        self.fetched += packed.fetched - before
        lengths = packed.lengths
        begin = 0
        for group in groups:
            rows = table.slice(begin, lengths[group])
            begin += lengths[group]
            for name in columns:
                known = self._kept.pop((rank, group, name), None)
                self._bytes += rows[name].nbytes - (known.nbytes if known is not None else 0)
                self._kept[rank, group, name] = rows[name]

    def _forget(self) -> None:
        while self._bytes > self.kept_bytes and self._kept:
            oldest = next(iter(self._kept))
            self._bytes -= self._kept.pop(oldest).nbytes


def _with(table: pa.Table, name: str, values: np.typing.NDArray[np.int64]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), pa.array(values))
