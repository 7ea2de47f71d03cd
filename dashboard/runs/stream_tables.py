"""The events of recorded streams by rank: in part for who asks once, whole for who asks again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.opened import KEPT_BYTES, LazyTables
from dashboard.runs.words import have
from tracer.arrays import number_array

Choose = Callable[[pa.RecordBatch], pa.RecordBatch]
ReadPart = Callable[[int, Collection[str], Choose], pa.Table]
"""Of a rank these columns, of those rows of each batch that are chosen."""

_EVENT_BYTES: Final = 110
"""Of all columns, in memory."""


class StreamTables(LazyTables):
    """Of a rank that is asked for the first time only those columns and rows are read, and nothing
    is kept. A rank that is asked for again is read whole and kept, if all ranks find room: most
    analyses go through the ranks once, and a report has many of them.
    """

    def __init__(
        self,
        ranks: tuple[int, ...],
        read: Callable[[int], pa.Table],
        read_part: ReadPart,
        *,
        event_count: int,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        super().__init__(ranks, read, kept_bytes=kept_bytes)
        self._read_part = read_part
        self._bytes_of_all = event_count * _EVENT_BYTES
        self._asked: set[int] = set()

    def part(
        self,
        rank: int,
        columns: Collection[str],
        steps: Collection[int] | None,
        kinds: Collection[str] | None = None,
    ) -> pa.Table:
        """See `ByColumn` (columns.py)."""
        finds_room = self._bytes_of_all <= self.kept_bytes
        if self.holds(rank) or (rank in self._asked and finds_room):
            return self[rank]
        if rank not in self._ranks:
            raise KeyError(rank)
        self._asked.add(rank)
        return self._read_part(rank, columns, _choosing(steps, kinds))


def _choosing(steps: Collection[int] | None, kinds: Collection[str] | None) -> Choose:
    wanted = None if steps is None else number_array(np.array(sorted(steps), np.int32))

    def choose(batch: pa.RecordBatch) -> pa.RecordBatch:
        if kinds is not None:
            batch = batch.filter(have(pa.chunked_array([batch.column("kind")]), kinds).chunk(0))
        if wanted is not None:
            batch = batch.filter(pc.is_in(batch.column("step"), wanted))
        return batch

    return choose
