"""The events of recorded streams by rank: in part for who asks once, whole for who asks again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import pyarrow as pa

from dashboard.runs.columns import Test
from dashboard.runs.contents import Contents
from dashboard.runs.opened import KEPT_BYTES, LazyTables
from dashboard.runs.unpacked import Unpacked
from dashboard.runs.words import chosen
from tracer.streams import Keep

ReadPart = Callable[[int, Collection[str], Keep, Collection[int] | None], pa.Table]
"""Of a rank these columns, of those rows that are kept, of these record batches or all."""
ReadBatches = Callable[[int, Collection[str], Collection[int]], pa.Table]
"""Of a rank these columns of these record batches, as they lie in the file."""
Place = Callable[[int, pa.Table], pa.Table]
"""Puts what lies in a rank's file on the common clock, in order of start."""
Take = Callable[[pa.Table], None]
ReadInParts = Callable[[int, Collection[str], Take], None]
ReadContents = Callable[[int], Contents | None]
"""Of a rank; None where its batches cannot be had by themselves."""

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
        read_in_parts: ReadInParts,
        read_contents: ReadContents,
        read_batches: ReadBatches,
        place: Place,
        *,
        event_count: int,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        super().__init__(ranks, read, kept_bytes=kept_bytes)
        self._read_part = read_part
        self._read_in_parts = read_in_parts
        self._read_contents = read_contents
        self._read_batches = read_batches
        self._place = place
        self._contents: dict[int, Contents | None] = {}
        self._bytes_of_all = event_count * _EVENT_BYTES
        self._asked: set[int] = set()

    def part(
        self,
        rank: int,
        columns: Collection[str],
        steps: Collection[int] | None,
        kinds: Collection[str] | None = None,
        lanes: Test | None = None,
    ) -> pa.Table:
        """See `ByColumn` (columns.py)."""
        if self.holds(rank) or (rank in self._asked and self._all_find_room):
            return self[rank]
        if rank not in self._ranks:
            raise KeyError(rank)
        self._asked.add(rank)
        known = self._contents.get(rank)
        batches = None if steps is None or known is None else known.with_steps(steps)
        return self._read_part(rank, columns, _choosing(steps, kinds, lanes), batches)

    def contents(self, rank: int) -> Contents | None:
        """Which record batches of a rank can be read by themselves with `batches`, and what they
        hold; None where that is not worth it, since the rank is in memory or will be, and where it
        cannot be, since the file is damaged.
        """
        if self.holds(rank) or self._all_find_room:
            return None
        if rank not in self._contents:
            self._contents[rank] = self._read_contents(rank)
        return self._contents[rank]

    def batches(self, rank: int, columns: Collection[str], batches: Collection[int]) -> pa.Table:
        """`rank` and these columns of these record batches, in order of start."""
        found = self._place(rank, self._read_batches(rank, columns, batches))
        return found.select(["rank", *columns])

    def unpacked(self, rank: int, columns: Collection[str], contents: Contents) -> Unpacked:
        """The same for who asks for more when he has seen some: at least those that are asked for,
        with these columns.
        """
        return Unpacked(
            contents.rows,
            partial(self._read_batches, rank, columns),
            partial(self._place, rank),
        )

    @property
    def _all_find_room(self) -> bool:
        return self._bytes_of_all <= self.kept_bytes

    def in_parts(self, rank: int, columns: Collection[str], take: Take) -> None:
        """See `InParts` (columns.py)."""
        if self.holds(rank):
            take(self[rank].select(["rank", *columns]))
        elif rank in self._ranks:
            self._read_in_parts(rank, columns, take)
        else:
            raise KeyError(rank)


def _choosing(
    steps: Collection[int] | None, kinds: Collection[str] | None, lanes: Test | None
) -> Keep:
    def choose(rows: pa.Table) -> pa.Table:
        found = chosen(rows, steps, kinds, lanes)
        return rows if found is None else rows.filter(found)

    return choose
