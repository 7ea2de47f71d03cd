"""What each rank brings to the dependency graph by itself: its steps, its operations, its work.

They are found rank by rank, so that several processes can share the ranks; what waits for what is
found where all ranks of a stretch of steps come together (graph.py). Of a rank whose device did the
work it is the device's (device_view.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.device_view import differs_on_its_device, rank_as_its_device_ran
from dashboard.analysis.lanes_of_kinds import same_lanes
from dashboard.analysis.operations import operations
from dashboard.analysis.replay.own_work import innermost_spans
from dashboard.analysis.replay.replayed_steps import Stretch, stretches_of
from dashboard.analysis.steps import step_windows
from dashboard.runs.stretches import around_stretches

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, slots=True, frozen=True)
class Strand:
    """Of one rank in a stretch of steps: their windows (as `step_windows`), the operations that
    begin in them (as `operations`), and the innermost spans of its host (as `innermost_spans`).
    """

    windows: pa.Table
    operations: pa.Table
    spans: pa.Table


Strands: TypeAlias = Mapping[int, Strand]
"""By rank."""


def strands_of(
    run: Recording, ranks: Collection[int], stretches: Sequence[Stretch]
) -> list[dict[int, Strand]]:
    """Of each stretch, those of `ranks`."""
    found: list[dict[int, Strand]] = [{} for _ in stretches]
    for rank in ranks:
        view = _as_its_device_ran(run, rank, stretches)
        every = step_windows(view, [step for steps in stretches for step in steps], ranks=[rank])
        windows = [_of_steps(every, steps) for steps in stretches]
        reach = [_reach(table) for table in windows]
        issued = operations(view, ranks=[rank], within=reach)
        spans = innermost_spans(view, rank, reach)
        for strands, mine, span in zip(found, windows, reach, strict=True):
            strands[rank] = Strand(
                windows=mine,
                operations=issued.filter(_between(issued["start"], issued["start"], span)),
                spans=spans.filter(_between(spans["start"], spans["end"], span)),
            )
    return found


def operations_as_devices_ran(run: Recording, steps: Sequence[int]) -> pa.Table:
    """The `operations` of those steps as devices carried them out; of a long rank only these
    steps are read.
    """
    if not any(differs_on_its_device(run, rank) for rank in run.ranks):
        return operations(run, steps)
    found = []
    for rank in run.ranks:
        if differs_on_its_device(run, rank):
            view = _as_its_device_ran(run, rank, stretches_of(steps, run.steps))
        else:
            view = run
        found.append(operations(view, steps, ranks=[rank]))
    return pa.concat_tables(found).combine_chunks()


def _of_steps(table: pa.Table, steps: Stretch) -> pa.Table:
    return table.filter(pc.is_in(table["step"], pa.array(steps, pa.int32())))


def _as_its_device_ran(run: Recording, rank: int, stretches: Sequence[Stretch]) -> Recording:
    """Each stretch is read with the step before, which other ranks may lack: when that was over
    decides when the first one began. Work of still earlier steps that lasts until then is not seen.
    """
    places = [run.steps.index(steps[0]) for steps in stretches]
    before = [run.steps[max(place - 1, 0) : place] for place in places]
    led = [{*known, steps[0] - 1} for known, steps in zip(before, stretches, strict=True)]
    part = around_stretches(
        run, rank, [(*sorted(lead), *steps) for lead, steps in zip(led, stretches, strict=True)]
    )
    same_lanes(run, part, rank)
    return rank_as_its_device_ran(part, rank)


def _reach(windows: pa.Table) -> tuple[int, int]:
    """From the first start to the last end."""
    start = windows["start"].to_numpy()
    return int(start[0]), int(start[-1]) + windows["duration"][-1].as_py()


def _between(start: pa.ChunkedArray, end: pa.ChunkedArray, span: tuple[int, int]) -> pa.Array:
    """What reaches into the span."""
    return pc.and_(pc.less_equal(start, span[1]), pc.greater_equal(end, span[0]))
