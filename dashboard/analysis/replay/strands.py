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

from dashboard.analysis.device_view import rank_as_its_device_ran
from dashboard.analysis.lanes_of_kinds import same_lanes
from dashboard.analysis.operations import operations
from dashboard.analysis.replay.own_work import innermost_spans
from dashboard.analysis.replay.replayed_steps import Stretch
from dashboard.analysis.steps import step_windows
from dashboard.runs.part import part_of

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
        whole = part_of(run, rank, run.steps)  # read once, for all that follows
        same_lanes(run, whole, rank)
        view = rank_as_its_device_ran(whole, rank)
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


def _of_steps(windows: pa.Table, steps: Stretch) -> pa.Table:
    return windows.filter(pc.is_in(windows["step"], pa.array(steps, pa.int32())))


def _reach(windows: pa.Table) -> tuple[int, int]:
    """From the first start to the last end."""
    start = windows["start"].to_numpy()
    return int(start[0]), int(start[-1]) + windows["duration"][-1].as_py()


def _between(start: pa.ChunkedArray, end: pa.ChunkedArray, span: tuple[int, int]) -> pa.Array:
    """What reaches into the span."""
    return pc.and_(pc.less_equal(start, span[1]), pc.greater_equal(end, span[0]))
