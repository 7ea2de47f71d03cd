"""Bubbles summed up over steps: parts per rank, and who waited for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.bubbles import Bubbles
from dashboard.analysis.pipeline.bubbles_by_rank import BubblesByRank, by_rank, mean_by_rank
from dashboard.analysis.results import Result


@dataclass(kw_only=True, frozen=True)
class Ratios(Result):
    """A bubble by both conventions: of the pipeline window, and over the busy time."""

    fraction_of_window: float | None
    over_ideal: float | None


@dataclass(kw_only=True, frozen=True)
class Stall(Result):
    """What one rank waits for another between actions, in ns per step."""

    rank: int
    culprit_rank: int
    stall_ns: float


PARTS: Final = ("warm_up", "stall", "cool_down")


def of_pipeline(bubbles: Bubbles, group: str) -> Bubbles:
    """What `bubbles` says of one pipeline (a value of its `group` columns)."""
    ranks = bubbles.ranks.filter(pc.equal(bubbles.ranks["group"], group))
    mine = pc.is_in(bubbles.stalls["rank"], pc.unique(ranks["rank"]))
    return Bubbles(
        ranks=ranks,
        stalls=bubbles.stalls.filter(mine),
        steps=bubbles.steps.filter(pc.equal(bubbles.steps["group"], group)),
        theory=bubbles.theory,
    )


def ratios(bubbles: Bubbles | BubblesByRank) -> tuple[Ratios, Ratios]:
    """The measured bubble and the plan bound: medians over the steps, None where unknown."""
    found = [
        Ratios(
            fraction_of_window=_median(bubbles.steps[f"{prefix}_fraction_of_window"]),
            over_ideal=_median(bubbles.steps[f"{prefix}_over_ideal"]),
        )
        for prefix in ("bubble", "plan_bound")
    ]
    return found[0], found[1]


def largest_stall(bubbles: Bubbles) -> Stall | None:
    """The pair of ranks with most stall per step; a rank's own time does not count."""
    rows = stalls_by_culprit(bubbles).to_pylist()
    return next((Stall(**row) for row in rows if row["rank"] != row["culprit_rank"]), None)


def mean_parts(bubbles: Bubbles) -> pa.Table:
    """Means over the steps per rank, in order of rank: group, rank, stages, then in ns window,
    busy, bubble, warm_up, stall, cool_down; and fraction = bubble / window.

    Before (ranks)                       After
    step 0, rank 1, window 10, busy 6    rank 1, window 20, busy 15, bubble 5, fraction 0.25
    step 1, rank 1, window 30, busy 24
    """
    return mean_by_rank(by_rank(bubbles))


def stalls_by_culprit(bubbles: Bubbles) -> pa.Table:
    """rank, culprit_rank, stall_ns per step: the mean over all measured steps, the largest first.

    A step in which a pair has no stall counts as 0.
    """
    steps = pc.count_distinct(bubbles.steps["step"]).as_py()
    grouped = bubbles.stalls.group_by(["rank", "culprit_rank"], use_threads=False)
    total = grouped.aggregate([("stall_ns", "sum")])
    mean = pc.divide(pc.cast(total["stall_ns_sum"], pa.float64()), float(max(steps, 1)))
    table = pa.table(
        {"rank": total["rank"], "culprit_rank": total["culprit_rank"], "stall_ns": mean}
    )
    return table.sort_by([("stall_ns", "descending")])


def _median(column: pa.ChunkedArray) -> float | None:
    known = column.drop_null().to_numpy()
    return float(np.median(known)) if len(known) else None
