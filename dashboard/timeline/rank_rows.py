"""One rank's events as rows to draw: its lanes, and in each the events by row, then start.

They come stretch by stretch. What is remembered from one to the next is until when each row is
taken; the events themselves wait in a temporary file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.runs.columns import numbers
from dashboard.timeline.array_file import Scratch
from dashboard.timeline.by_name import NO_BYTES
from dashboard.timeline.lanes import COLUMNS
from dashboard.timeline.nesting import nesting_depth
from tracer.arrays import number_array
from tracer.schema import KINDS

Ints = NDArray[np.int64]
Events = NDArray[np.void]
"""Records of `EVENT`."""

EVENT: Final = np.dtype([*COLUMNS.items(), ("size", np.uint32)])
"""An event with the columns of `Timeline`, and the place of what it moved among `sizes`."""
READ: Final = ("start", "duration", "kind", "name", "lane", "step", "stage", "microbatch", "bytes")
"""What is read of an event."""

_STEP: Final = KINDS.index("step")
_NONE: Final = -1
"""In place of a number that an event does not have."""


@dataclass(slots=True, frozen=True)
class RowOfLane:
    """A row of a lane: how many events it has, its first start and its last end, ns."""

    count: int
    begin: int
    end: int


@dataclass(slots=True)
class _Row:
    begin: int
    end: int = 0
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Where its events are, from … to, in the temporary file."""


class RankRows:
    """The rows of a rank, laid out stretch by stretch.

    names: grows by the names that are new to it.
    steps: step, start and duration of each that has a number.
    sizes: what its events moved, each size once: bytes, `NO_BYTES` for nothing.
    """

    def __init__(self, scratch: Scratch, names: dict[str, int]) -> None:
        self._scratch = scratch
        self._names = names
        self._lanes: dict[str, list[_Row]] = {}
        self._sizes: dict[int, int] = {}
        self._seen = 0
        self._steps = [np.zeros((0, 3), np.int64)]

    def add(self, table: pa.Table) -> None:
        """The events of the next stretch, which begin later than all before."""
        events = self._events(table)
        numbered = events[(events["kind"] == _STEP) & (events["step"] > _NONE)]
        columns = [numbered[name].astype(np.int64) for name in ("step", "start", "duration")]
        self._steps.append(np.stack(columns, axis=1))
        for lane, members in _lane_members(table, events["kind"]):
            self._lay_out(self._lanes.setdefault(lane, []), _in_order(events[members]))

    @property
    def steps(self) -> Ints:
        """Of shape (n, 3)."""
        return np.concatenate(self._steps)

    @property
    def sizes(self) -> Ints:
        """In order of their first event."""
        return np.array([*self._sizes], np.int64)

    def lanes(self) -> Iterator[tuple[str, list[RowOfLane]]]:
        """Each lane's name and its rows, host lanes first; steps are drawn as lines."""
        for lane in sorted(self._lanes, key=_lane_order):
            yield (
                lane,
                [
                    RowOfLane(sum(high - low for low, high in row.pieces), row.begin, row.end)
                    for row in self._lanes[lane]
                ],
            )

    def events(self, at_once: int) -> Iterator[Events]:
        """All events that are drawn, lane by lane and row by row, in arrays of `at_once` events;
        the last one has what is left.
        """
        waiting: list[Events] = []
        count = 0
        for lane in sorted(self._lanes, key=_lane_order):
            for low, high in (piece for row in self._lanes[lane] for piece in row.pieces):
                waiting.append(self._scratch[low:high])
                count += high - low
                while count >= at_once:
                    joined = np.concatenate(waiting)
                    yield joined[:at_once]
                    waiting, count = [joined[at_once:]], count - at_once
        if count:
            yield np.concatenate(waiting)

    def _events(self, table: pa.Table) -> Events:
        found = np.empty(table.num_rows, EVENT)
        for name in ("start", "duration"):
            found[name] = numbers(table[name])
        for name in ("step", "stage", "microbatch"):
            found[name] = numbers(table[name], null=_NONE)
        found["kind"] = _codes(table["kind"], dict(_KINDS))
        found["name"] = _codes(table["name"], self._names)
        found["source"] = np.arange(self._seen, self._seen + len(found))
        found["size"] = _codes(_sizes(table["bytes"]), self._sizes)
        self._seen += len(found)
        return found

    def _lay_out(self, rows: list[_Row], events: Events) -> None:
        start, end = events["start"], events["start"] + events["duration"]
        depth = nesting_depth(start, end, [row.end for row in rows])
        order = np.argsort(depth, kind="stable")
        at = len(self._scratch)
        self._scratch.add(events[order])
        for row, count in enumerate(np.bincount(depth).tolist()):
            if not count:
                continue
            members, order = order[:count], order[count:]
            if row == len(rows):
                rows.append(_Row(begin=int(start[members[0]])))
            rows[row].end = int(end[members[-1]])
            rows[row].pieces.append((at, at + count))
            at += count


_KINDS: Final = {name: code for code, name in enumerate(KINDS)}


def _sizes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each size once, and which each event has."""
    return pa.chunked_array([number_array(numbers(column, null=NO_BYTES)).dictionary_encode()])


def _codes(column: pa.ChunkedArray, known: dict[Any, int]) -> Ints:
    """The place of each value in `known`, which grows by the values that are new to it."""
    parts = [np.zeros(0, np.int64)]
    for words in column.chunks:
        places = [known.setdefault(word, len(known)) for word in words.dictionary.to_pylist()]
        parts.append(np.asarray([*places, 0], np.int64)[np.from_dlpack(words.indices)])
    return np.concatenate(parts)


def _lane_members(
    table: pa.Table, kind: NDArray[np.uint8]
) -> Iterable[tuple[str, NDArray[np.intp]]]:
    """The name of each lane that has events to draw, and which."""
    known: dict[str, int] = {}
    lane = _codes(table["lane"], known)
    drawn = np.flatnonzero(kind != _STEP)
    members = _by_code(lane[drawn], len(known))
    for name, code in known.items():
        if len(members[code]):
            yield name, drawn[members[code]]


def _by_code(codes: Ints, count: int) -> list[NDArray[np.intp]]:
    """The places of each code from 0 to `count` - 1, in order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, count)))


def _lane_order(lane: str) -> tuple[bool, bool, str]:
    return not lane.startswith("host:"), lane != "host:main", lane


def _in_order(events: Events) -> Events:
    """By start, as they come, and of those that start together the longest first."""
    start = events["start"]
    as_before = np.concatenate([[False], start[1:] == start[:-1], [False]])
    tied = np.flatnonzero(as_before[1:] | as_before[:-1])
    if len(tied):
        order = np.arange(len(events))
        order[tied] = tied[np.lexsort((-events["duration"][tied], start[tied]))]
        events = events[order]
    return events
