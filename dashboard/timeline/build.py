"""Make the timeline of a run: rank by rank, and of each rank one stretch of time after the other,
so that the memory that it takes does not depend on how long the run is.

What is made goes into a `Store` as it is made. A file keeps it out of memory, and the timeline is
then read from there (index.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.analysis.time_spent.claims import CLAIMED_BY
from dashboard.runs.columns import in_parts
from dashboard.runs.in_order import STRETCH, InOrder
from dashboard.timeline import by_name
from dashboard.timeline.array_file import Array, MemoryStore, Scratch, Store
from dashboard.timeline.by_category import CHANGE, CategorySums, Divided
from dashboard.timeline.by_name import NameSums, Summing
from dashboard.timeline.lanes import COLUMNS, FEW_EVENTS, Lane, Sums, Timeline
from dashboard.timeline.occupancy import build_occupancy, occupancy_from
from dashboard.timeline.rank_rows import EVENT, READ, RankRows
from tracer.schema import KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

Advance = Callable[[int], object]

_BLOCKS: Final = 1 << 6
"""Of sums by name, whose events are in memory at once when they are kept."""

_STEPS: Final = 1 << 16
"""Of all ranks, that are in memory at once when they are kept or gone through: 2 MB."""


@dataclass(slots=True)
class _Laid:
    """What is known of the ranks that are laid out already. steps: four numbers of each."""

    steps: Scratch
    names: dict[str, int] = field(default_factory=dict)
    lanes: list[Lane] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, run: Recording, rank: int, rows: RankRows) -> None:
        """One rank more."""
        facts, steps = run.facts[rank], rows.steps
        if len(steps):
            self.steps.add(np.insert(steps, 0, rank, axis=1).reshape(-1))
            self.begins.append(int(steps[:, 1].min()))
            self.ends.append(int((steps[:, 1] + steps[:, 2]).max()))
        for lane, of_lane in rows.lanes():
            self.lanes.append(
                Lane(
                    rank=rank,
                    lane=lane,
                    stages=tuple(facts.stages),
                    coordinates=dict(facts.coordinates),
                    first_row=len(self.offsets) - 1,
                    rows=len(of_lane),
                )
            )
            for row in of_lane:
                self.offsets.append(self.offsets[-1] + row.count)
                self.begins.append(row.begin)
                self.ends.append(row.end)

    @property
    def span(self) -> tuple[int, int]:
        """From the first start to the last end, ns; one ns long where there is nothing."""
        first = min(self.begins, default=0)
        return first, max(max(self.ends, default=0), first + 1)


def build_timeline(
    run: Recording, *, advance: Advance = lambda events: None, few_events: int = FEW_EVENTS
) -> Timeline:
    """The timeline in memory.

    advance: is told how many events are done, each of them twice.
    few_events: so many and fewer get no `occupancy` and no `sums`.
    """
    store = MemoryStore()
    head = write_timeline(run, store, advance=advance, few_events=few_events)
    return timeline_from(head, store.arrays, run.tables)


def write_timeline(
    run: Recording,
    store: Store,
    *,
    advance: Advance,
    few_events: int,
    stretch: int = STRETCH,
) -> dict[str, Any]:
    """Lay out every readable rank of a run in `store`, stage by stage; returns what `timeline_from`
    has to know beside the arrays, as JSON can say it.
    """
    with store.temporary() as steps:
        laid = _Laid(Scratch(steps, np.int64))
        return _write(run, store, laid, advance=advance, few_events=few_events, stretch=stretch)


def _write(
    run: Recording,
    store: Store,
    laid: _Laid,
    *,
    advance: Advance,
    few_events: int,
    stretch: int,
) -> dict[str, Any]:
    arrays = {name: store.allocate(name, of, (run.event_count,)) for name, of in COLUMNS.items()}
    # a run that is being recorded is laid out anew as it grows, too often to add it up as well
    is_summed = run.files is not None and run.event_count > few_events
    for rank in sorted(run.ranks, key=lambda rank: (tuple(run.facts[rank].stages), rank)):
        done = laid.offsets[-1]
        with store.temporary() as waiting:
            rows = RankRows(Scratch(waiting, EVENT), laid.names)
            _read(run, rank, store, rows, is_summed=is_summed, stretch=stretch)
            laid.add(run, rank, rows)
            _keep(store, arrays, rank, rows, slice(done, laid.offsets[-1]), is_summed=is_summed)
        advance(laid.offsets[-1] - done)
    store.keep("offsets", np.array(laid.offsets, np.int64))
    steps = store.allocate("steps", np.int64, (len(laid.steps) // 4, 4))
    for low in range(0, len(laid.steps) // 4, _STEPS):
        some = laid.steps[4 * low : 4 * (low + _STEPS)].reshape(-1, 4)
        steps[low : low + len(some)] = some
    occupied = None
    if laid.offsets[-1] > few_events:
        occupied = build_occupancy(arrays, laid.offsets, laid.span, store, advance)
    return {
        "lanes": [asdict(lane) for lane in laid.lanes],
        "names": list(laid.names),
        "span": laid.span,
        "occupancy": occupied,
        "summed": list(run.ranks) if is_summed else None,
    }


def timeline_from(
    head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], tables: Mapping[int, pa.Table]
) -> Timeline:
    """The timeline that `write_timeline` wrote.

    Raises:
        KeyError, TypeError: that was something else.
    """
    summed, occupied = head["summed"], head["occupancy"]
    count = int(arrays["offsets"][-1])  # steps are events, too, but not among these
    return Timeline(
        lanes=tuple(Lane(**lane | {"stages": tuple(lane["stages"])}) for lane in head["lanes"]),
        names=tuple(head["names"]),
        steps=arrays["steps"],
        steps_of=by_rank(arrays["steps"][:, 0]),
        span=(head["span"][0], head["span"][1]),
        tables=tables,
        offsets=arrays["offsets"],
        **{name: arrays[name][:count] for name in COLUMNS},
        occupancy=None if occupied is None else occupancy_from(occupied, arrays),
        sums=None if summed is None else {rank: _sums_from(arrays, rank) for rank in summed},
    )


def by_rank(ranks: NDArray[np.int64]) -> dict[int, slice]:
    """Where those of each rank lie, side by side: `[3, 3, 0]` → `{3: 0…2, 0: 2…3}`."""
    edges = [
        low + np.flatnonzero(np.diff(ranks[low : low + _STEPS], prepend=ranks[max(low - 1, 0)]))
        for low in range(0, len(ranks), _STEPS)
    ]
    firsts = [0, *np.concatenate(edges).tolist(), len(ranks)] if edges else []
    return {int(ranks[at]): slice(at, end) for at, end in pairwise(firsts)}


def _read(
    run: Recording, rank: int, store: Store, rows: RankRows, *, is_summed: bool, stretch: int
) -> None:
    """Add the rank's events to `rows`, in order of start, and keep how its time is divided."""
    with store.temporary() as parts, store.temporary() as changes:
        ordered = InOrder(parts, stretch=stretch)
        divided = Divided(Scratch(changes, CHANGE), is_imported=run.meta.source is not None)

        def take(part: pa.Table) -> None:
            if is_summed:
                divided.look_at(part)
            ordered.add(part)

        columns = dict.fromkeys((*READ, *(CLAIMED_BY if is_summed else ())))
        in_parts(run.tables, rank, tuple(columns), take)
        for table in ordered.stretches():
            rows.add(table)
            if is_summed:
                divided.add(table)
        if is_summed:
            divided.keep(store, rank)


def _keep(
    store: Store,
    arrays: Mapping[str, Array],
    rank: int,
    rows: RankRows,
    place: slice,
    *,
    is_summed: bool,
) -> None:
    """The rank's events at their place in the arrays, and what they add up to."""
    summing = Summing(store, rank, rows.sizes, place.stop - place.start) if is_summed else None
    at = place.start
    for events in rows.events(_BLOCKS * by_name.BLOCK):
        for name, array in arrays.items():
            array[at : at + len(events)] = events[name]
        at += len(events)
        if summing is not None:
            code = events["name"].astype(np.int64) * len(KINDS) + events["kind"]
            summing.add(code, events["duration"].copy(), events["size"])
    if summing is not None:
        summing.keep()


def _sums_from(arrays: Mapping[str, NDArray[Any]], rank: int) -> Sums:
    def made(of: Any) -> Any:
        return of(**{part.name: arrays[f"{part.name}_of_{rank}"] for part in fields(of)})

    return Sums(names=made(NameSums), categories=made(CategorySums))
