"""A run as rows to draw: one lane per thread or stream of a rank, nested events in deeper rows.

Within a row no two events overlap, so starts and ends are both sorted there and a window is two
binary searches (window.py). The arrays are in memory, or in the run's index file (index.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dashboard.timeline.occupancy import Allocate, Occupancy, build_occupancy
from tracer.schema import KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

Ints = NDArray[np.int64]

_STEP: Final = KINDS.index("step")
_HIDDEN_MICROBATCH: Final = -1

FEW_EVENTS: Final = 200_000
"""So many can be gone through for each window; only beyond is occupancy worth its memory."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Lane:
    """One thread or stream of one rank; it takes the rows `first_row … first_row + rows - 1`."""

    rank: int
    lane: str
    stages: tuple[int, ...]
    coordinates: Mapping[str, int]
    first_row: int
    rows: int


@dataclass(kw_only=True, slots=True, frozen=True)
class Step:
    """One step of one rank, ns from the run's start."""

    rank: int
    step: int
    start: int
    duration: int


@dataclass(kw_only=True, slots=True, frozen=True)
class Timeline:
    """All events of a run but the steps, sorted by (row, start).

    `offsets[row] : offsets[row + 1]` are a row's events. `kind` and `name` index `KINDS` and
    `names`, `microbatch` is -1 where an event has none, and `source` is the event's place in
    `tables[rank]`, the events as the run has them. Times are ns from the run's start. `occupancy`
    says the same of windows that hold very many events; None where there are few.
    """

    lanes: tuple[Lane, ...]
    names: tuple[str, ...]
    steps: tuple[Step, ...]
    span: tuple[int, int]
    tables: Mapping[int, pa.Table]
    offsets: Ints
    start: Ints
    duration: Ints
    kind: NDArray[np.uint8]
    name: NDArray[np.int32]
    microbatch: NDArray[np.int32]
    source: NDArray[np.uint32]
    occupancy: Occupancy | None = None

    @property
    def row_count(self) -> int:
        """Rows of all lanes."""
        return len(self.offsets) - 1


COLUMNS: Final = {
    "start": np.int64,
    "duration": np.int64,
    "kind": np.uint8,
    "name": np.int32,
    "microbatch": np.int32,
    "source": np.uint32,
}
"""The arrays of `Timeline` that have a value per event, and their types."""


@dataclass(slots=True)
class _Columns:
    """The arrays of one lane, or of one rank."""

    start: Ints
    duration: Ints
    kind: NDArray[np.uint8]
    name: NDArray[np.int32]
    microbatch: NDArray[np.int32]
    source: NDArray[np.uint32]

    def take(self, order: NDArray[Any]) -> _Columns:
        return _Columns(*(getattr(self, name)[order] for name in _Columns.__slots__))


def in_memory(name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of zeros; `name` is for those that keep arrays elsewhere."""
    return np.zeros(shape, dtype)


def build_timeline(
    run: Recording,
    *,
    allocate: Allocate = in_memory,
    advance: Callable[[int], object] = lambda events: None,
    few_events: int = FEW_EVENTS,
) -> Timeline:
    """Lay out every readable rank of a run, stage by stage.

    allocate: makes the arrays that grow with the run.
    advance: is told how many events are done, each of them twice.
    few_events: so many and fewer get no `occupancy`.
    """
    names: dict[str, int] = {}
    lanes: list[Lane] = []
    steps: list[Step] = []
    offsets = [0]
    total = sum(_drawn_events(run.tables[rank]) for rank in run.ranks)
    events: dict[str, Any] = {
        name: allocate(name, dtype, (total,)) for name, dtype in COLUMNS.items()
    }
    for rank in sorted(run.ranks, key=lambda rank: (tuple(run.facts[rank].stages), rank)):
        table, done = run.tables[rank], offsets[-1]
        columns = _columns(table, names)
        steps += _steps(rank, table, columns)
        for lane, members in _lane_members(table, columns.kind):
            layers = list(_rows(columns.take(members)))
            facts = run.facts[rank]
            lanes.append(
                Lane(
                    rank=rank,
                    lane=lane,
                    stages=tuple(facts.stages),
                    coordinates=dict(facts.coordinates),
                    first_row=len(offsets) - 1,
                    rows=len(layers),
                )
            )
            for layer in layers:
                offsets.append(offsets[-1] + len(layer.start))
                for name, array in events.items():
                    array[offsets[-2] : offsets[-1]] = getattr(layer, name)
        advance(offsets[-1] - done)
    timeline = Timeline(
        lanes=tuple(lanes),
        names=tuple(names),
        steps=tuple(steps),
        span=_span(offsets, events, steps),
        tables=run.tables,
        offsets=np.asarray(offsets, np.int64),
        **events,
    )
    if total <= few_events:
        return timeline
    return replace(timeline, occupancy=build_occupancy(timeline, timeline.span, allocate, advance))


def nesting_depth(start: Ints, end: Ints) -> NDArray[np.int64]:
    """The first row that is free for each event; events come sorted by (start, -end).

    Nested events get one row more than what encloses them, as do events that overlap otherwise:

        start 0  2  5  12        depth 0  1  1  0
        end  10  4  8  20
    """
    depth = np.zeros(len(start), np.int64)
    if len(start) == 0 or bool(np.all(start[1:] >= np.maximum.accumulate(end)[:-1])):
        return depth
    free: list[int] = []
    taken: list[tuple[int, int]] = []
    for index, (begins, ends) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        while taken and taken[0][0] <= begins:
            heappush(free, heappop(taken)[1])
        # rows 0 … len(free) + len(taken) - 1 exist, each in one of the two heaps
        row = heappop(free) if free else len(taken)
        depth[index] = row
        heappush(taken, (ends, row))
    return depth


def _columns(table: pa.Table, names: dict[str, int]) -> _Columns:
    kinds = {name: code for code, name in enumerate(KINDS)}
    microbatch = table["microbatch"].fill_null(_HIDDEN_MICROBATCH)
    return _Columns(
        start=_numbers(table["start"], np.int64),
        duration=_numbers(table["duration"], np.int64),
        kind=_codes(table["kind"], kinds).astype(np.uint8),
        name=_codes(table["name"], names).astype(np.int32),
        microbatch=_numbers(microbatch, np.int32),
        source=np.arange(table.num_rows, dtype=np.uint32),
    )


def _numbers(column: pa.ChunkedArray, dtype: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy(), dtype=dtype)


def _codes(column: pa.ChunkedArray, known: dict[str, int]) -> NDArray[np.int64]:
    """The place of each value in `known`, which grows by the values that are new to it."""
    parts = [np.zeros(0, np.int64)]
    for chunk in column.chunks:
        words = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        places = [known.setdefault(str(word), len(known)) for word in words.dictionary.to_pylist()]
        parts.append(np.asarray([*places, 0], np.int64)[words.indices.to_numpy(False)])
    return np.concatenate(parts)


def _lane_members(
    table: pa.Table, kind: NDArray[np.uint8]
) -> Iterable[tuple[str, NDArray[np.intp]]]:
    """Each lane's name and the events on it, host lanes first; steps are drawn as lines."""
    known: dict[str, int] = {}
    lane = _codes(table["lane"], known)
    drawn = np.flatnonzero(kind != _STEP)
    members = _by_code(lane[drawn], len(known))
    for name in sorted(known, key=_lane_order):
        places = drawn[members[known[name]]]
        if len(places):
            yield name, places


def _by_code(codes: Ints, count: int) -> list[NDArray[np.intp]]:
    """The places of each code from 0 to `count` - 1, in order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, count)))


def _lane_order(lane: str) -> tuple[bool, bool, str]:
    return not lane.startswith("host:"), lane != "host:main", lane


def _rows(events: _Columns) -> Iterable[_Columns]:
    end = events.start + events.duration
    order = np.lexsort((-end, events.start))
    ordered = events.take(order)
    depth = nesting_depth(ordered.start, end[order])
    for places in _by_code(depth, int(depth.max(initial=0)) + 1):
        yield ordered.take(places)


def _steps(rank: int, table: pa.Table, columns: _Columns) -> list[Step]:
    places = np.flatnonzero(columns.kind == _STEP)
    numbers = table["step"].take(pa.array(places)).to_pylist()
    return [
        Step(
            rank=rank,
            step=number,
            start=int(columns.start[place]),
            duration=int(columns.duration[place]),
        )
        for place, number in zip(places.tolist(), numbers, strict=True)
        if number is not None
    ]


def _drawn_events(table: pa.Table) -> int:
    """All but the steps."""
    steps: int = pc.sum(pc.equal(table["kind"].cast("string"), "step")).as_py() or 0
    return int(table.num_rows) - steps


def _span(
    offsets: Sequence[int], events: Mapping[str, NDArray[Any]], steps: Sequence[Step]
) -> tuple[int, int]:
    """From the first start to the last end; one ns long where there is nothing."""
    start, duration = events["start"], events["duration"]
    starts = [int(start[first]) for first in offsets[:-1]] + [step.start for step in steps]
    ends = [int(start[end - 1] + duration[end - 1]) for end in offsets[1:]]
    ends += [step.start + step.duration for step in steps]
    first = min(starts, default=0)
    return first, max(max(ends, default=0), first + 1)
