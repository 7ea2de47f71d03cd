"""Make the timeline of a run: rank by rank, so that one rank's events are in memory at a time.

What is made goes into a `Store` as it is made. A file keeps it out of memory, and the timeline is
then read from there (index.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.analysis.time_spent.claims import claims_of
from dashboard.runs.part import alone
from dashboard.timeline.array_file import MemoryStore, Store
from dashboard.timeline.by_category import CategorySums, category_sums
from dashboard.timeline.by_name import NameSums, name_sums
from dashboard.timeline.lanes import COLUMNS, FEW_EVENTS, Lane, Step, Sums, Timeline
from dashboard.timeline.occupancy import build_occupancy, occupancy_from
from dashboard.timeline.rank_rows import Columns, columns_of, lanes_of, steps_of
from tracer.schema import KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

Advance = Callable[[int], object]


@dataclass(slots=True)
class _Laid:
    """What is known of the ranks that are laid out already."""

    names: dict[str, int] = field(default_factory=dict)
    lanes: list[Lane] = field(default_factory=list)
    steps: list[NDArray[np.int64]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

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
    run: Recording, store: Store, *, advance: Advance, few_events: int
) -> dict[str, Any]:
    """Lay out every readable rank of a run in `store`, stage by stage; returns what `timeline_from`
    has to know beside the arrays, as JSON can say it.
    """
    arrays = {name: store.allocate(name, of, (run.event_count,)) for name, of in COLUMNS.items()}
    laid = _Laid()
    # a run that is being recorded is laid out anew as it grows, too often to add it up as well
    is_summed = run.files is not None and run.event_count > few_events
    for rank in sorted(run.ranks, key=lambda rank: (tuple(run.facts[rank].stages), rank)):
        only, done = alone(run, rank), laid.offsets[-1]
        rows = _lay_out(only, rank, laid)
        for name, array in arrays.items():
            array[done : laid.offsets[-1]] = getattr(rows, name)
        if is_summed:
            _keep_sums(store, only, rank, rows)
        advance(laid.offsets[-1] - done)
    store.keep("offsets", np.array(laid.offsets, np.int64))
    store.keep("steps", np.concatenate([np.zeros((0, 4), np.int64), *laid.steps]))
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
    steps: list[list[int]] = arrays["steps"].tolist()
    summed, occupied = head["summed"], head["occupancy"]
    count = int(arrays["offsets"][-1])  # steps are events, too, but not among these
    return Timeline(
        lanes=tuple(Lane(**lane | {"stages": tuple(lane["stages"])}) for lane in head["lanes"]),
        names=tuple(head["names"]),
        steps=tuple(
            Step(rank=rank, step=step, start=start, duration=duration)
            for rank, step, start, duration in steps
        ),
        span=(head["span"][0], head["span"][1]),
        tables=tables,
        offsets=arrays["offsets"],
        **{name: arrays[name][:count] for name in COLUMNS},
        occupancy=None if occupied is None else occupancy_from(occupied, arrays),
        sums=None if summed is None else {rank: _sums_from(arrays, rank) for rank in summed},
    )


def _lay_out(run: Recording, rank: int, laid: _Laid) -> Columns:
    """The rank's events in order of rows; its lanes, steps and offsets are added to `laid`."""
    table, facts = run.tables[rank], run.facts[rank]
    columns = columns_of(table, laid.names)
    steps = steps_of(rank, columns)
    if len(steps):
        laid.steps.append(steps)
        laid.begins.append(int(steps[:, 2].min()))
        laid.ends.append(int((steps[:, 2] + steps[:, 3]).max()))
    rows = [columns.take(np.arange(0))]
    for lane, layers in lanes_of(table, columns):
        laid.lanes.append(
            Lane(
                rank=rank,
                lane=lane,
                stages=tuple(facts.stages),
                coordinates=dict(facts.coordinates),
                first_row=len(laid.offsets) - 1,
                rows=len(layers),
            )
        )
        for layer in layers:
            laid.offsets.append(laid.offsets[-1] + len(layer.start))
            laid.begins.append(int(layer.start[0]))
            laid.ends.append(int(layer.start[-1] + layer.duration[-1]))
        rows += layers
    return Columns(
        *(np.concatenate([getattr(part, name) for part in rows]) for name in Columns.__slots__)
    )


def _keep_sums(store: Store, run: Recording, rank: int, rows: Columns) -> None:
    code = rows.name.astype(np.int64) * len(KINDS) + rows.kind
    for sums in (
        name_sums(code, rows.duration, rows.payload),
        category_sums(claims_of(run, rank)),
    ):
        for part in fields(sums):
            store.keep(f"{part.name}_of_{rank}", getattr(sums, part.name))


def _sums_from(arrays: Mapping[str, NDArray[Any]], rank: int) -> Sums:
    def made(of: Any) -> Any:
        return of(**{part.name: arrays[f"{part.name}_of_{rank}"] for part in fields(of)})

    return Sums(names=made(NameSums), categories=made(CategorySums))
