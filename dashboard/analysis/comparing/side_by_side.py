"""One step of two runs side by side: when each rank spent its time on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.results import Result
from dashboard.analysis.steps import step_windows
from dashboard.analysis.time_spent.accounting import course

if TYPE_CHECKING:
    from dashboard.runs import Recording

MOST_RANKS: Final = 16
"""Of each run: their rows have to stand on one screen, twice."""
MOST_BOXES: Final = 3000
"""Of each run: what the browser draws without a pause; the shortest are left out beyond them."""


@dataclass(kw_only=True, frozen=True)
class StepCourse(Result):
    """A step of a run. table: rank, category, start and duration (ns, from the step's begin), in
    order of start. begin, end: its window over all ranks shown, ns from the run's start.
    ranks: those shown; left_out: how many stretches of time were too many, and left_out_ns: the
    longest of them.
    """

    step: int
    begin: int
    end: int
    ranks: tuple[int, ...]
    table: pa.Table
    left_out: int
    left_out_ns: int


def step_course(run: Recording, step: int) -> StepCourse:
    """The first `MOST_RANKS` ranks of a run in a complete step of it."""
    ranks = tuple(run.ranks[:MOST_RANKS])
    found = step_windows(run, [step])
    windows = found.filter(pc.is_in(found["rank"], pa.array(ranks, pa.int32())))
    table = course(run, step, ranks)
    longest = table.sort_by([("duration", "descending")])
    rest = longest["duration"][MOST_BOXES:]
    return StepCourse(
        step=step,
        begin=pc.min(windows["start"]).as_py(),
        end=pc.max(pc.add(windows["start"], windows["duration"])).as_py(),
        ranks=ranks,
        table=longest.slice(0, MOST_BOXES).sort_by([("start", "ascending"), ("rank", "ascending")]),
        left_out=len(rest),
        left_out_ns=rest[0].as_py() if len(rest) else 0,
    )


def step_beside(steps_a: Sequence[int], steps_b: Sequence[int], step: int) -> int:
    """The step of B that stands beside `step` of A: the same one, else the one in the same place
    counted from the first, else B's last.
    """
    if step in steps_b:
        return step
    return steps_b[min(list(steps_a).index(step), len(steps_b) - 1)]
