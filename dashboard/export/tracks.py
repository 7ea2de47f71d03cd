"""Which row of a viewer each event is drawn on: one per lane, more where events cross.

Viewers draw the events of a row as a stack: the later one has to end before the earlier one does.
Events of a lane that cross each other go to further rows of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]

STEPS: Final = "steps"
"""The row of the step windows, which other events may cross."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One row of a rank: its lane, and which of the lane's rows it is, from 0."""

    lane: str
    row: int = 0

    @property
    def title(self) -> str:
        """`host:main`, `host:main (2)`."""
        return f"{self.lane} ({self.row + 1})" if self.row else self.lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """The rows of a rank, and for each event (by its place in the table) the one that it is on."""

    tracks: tuple[Track, ...]
    of_event: Ints


def lay_out(events: pa.Table) -> Tracks:
    """The rows of one rank: its steps first, then its host lanes, then its devices'.

    Before (lane, start … end)        After
    host:main   0 … 10                host:main
    host:main   2 …  4                host:main
    host:main   8 … 12                host:main (2)
    """
    start = events["start"].to_numpy()
    end = start + events["duration"].to_numpy()
    kind = _words(events["kind"])
    lane = np.where(kind == "step", STEPS, _words(events["lane"]))
    tracks: list[Track] = []
    of_event = np.zeros(len(start), np.int64)
    for name in sorted(set(lane.tolist()), key=_lane_order):
        members = np.flatnonzero(lane == name)
        members = members[np.lexsort((-end[members], start[members]))]
        rows = nested_rows(start[members], end[members])
        of_event[members] = rows + len(tracks)
        tracks += [Track(lane=name, row=row) for row in range(int(rows.max(initial=0)) + 1)]
    return Tracks(tracks=tuple(tracks), of_event=of_event)


def nested_rows(start: Ints, end: Ints) -> Ints:
    """The first row in which each event lies wholly in, or wholly after, those before it; events
    come sorted by (start, -end).
    """
    rows = np.zeros(len(start), np.int64)
    if len(start) == 0 or bool(np.all(start[1:] >= np.maximum.accumulate(end)[:-1])):
        return rows
    stacks: list[list[int]] = []
    for index, (begins, ends) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        row = next((r for r, stack in enumerate(stacks) if _takes(stack, begins, ends)), None)
        if row is None:
            row = len(stacks)
            stacks.append([])
        stacks[row].append(ends)
        rows[index] = row
    return rows


def _takes(stack: list[int], begins: int, ends: int) -> bool:
    """Whether what is open in a row at `begins` encloses an event that lasts until `ends`."""
    while stack and stack[-1] <= begins:
        stack.pop()
    return not stack or stack[-1] >= ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Beginnings and ends of events in the order in which a stack takes them: at which time, of
    which event (its place in the table), and whether it is a beginning. Events of no duration only
    begin.
    """

    time: Ints
    event: Ints
    begins: NDArray[np.bool_]


def course(events: pa.Table) -> Course:
    """All events of a rank as beginnings and ends.

    At one time, what ends comes before what begins, the inner before the outer.
    """
    start = events["start"].to_numpy()
    duration = events["duration"].to_numpy()
    order = np.lexsort((-duration, start))
    lasting = order[duration[order] > 0]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    time = np.concatenate([start[order], start[lasting] + duration[lasting]])
    event = np.concatenate([order, lasting])
    begins = np.arange(len(event)) < len(order)
    sequence = np.lexsort((np.where(begins, place[event], -place[event]), begins, time))
    return Course(time=time[sequence], event=event[sequence], begins=begins[sequence])


def _words(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.cast(pa.string()).to_pylist(), dtype=object)


def _lane_order(lane: str) -> tuple[bool, bool, bool, str]:
    return lane != STEPS, not lane.startswith("host:"), lane != "host:main", lane
