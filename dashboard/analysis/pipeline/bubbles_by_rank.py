"""Bubbles summed up over steps: a long run needs no row for each of its ranks and steps.

Sums are of whole nanoseconds, so that parts may be added in any grouping.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.bubbles import (
    Bubbles,
    measure_bubbles,
    ratios_in_order,
    theory_of_run,
)
from dashboard.analysis.pipeline.theory import Theory
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import summed

if TYPE_CHECKING:
    from dashboard.runs import Recording

MEASURES: Final = (
    "window_ns",
    "busy_ns",
    "bubble_ns",
    "warm_up_ns",
    "stall_ns",
    "cool_down_ns",
)
_OF_RANK: Final = ("group", "rank", "stages")
_OF_PAIR: Final = ("rank", "culprit_rank")


@dataclass(kw_only=True, frozen=True)
class BubblesByRank(Result):
    """ranks: group, rank, stages, steps (how many), and in ns over all of them window, busy, bubble
        = warm_up + stall + cool_down; in order of rank.
    stalls: rank, culprit_rank, stall_ns over all steps; in order of both.
    steps, theory: as `Bubbles`.
    """

    ranks: pa.Table
    stalls: pa.Table
    steps: pa.Table
    theory: Theory | None


def bubbles_by_rank(run: Recording, steps: Collection[int] | None = None) -> BubblesByRank:
    """Of every complete step (or those of `steps`) of every pipeline of the run."""
    return by_rank(run.answer(measure_bubbles, steps))


def by_rank(bubbles: Bubbles) -> BubblesByRank:
    """The sums.

    Before (ranks)                       After
    step 0, rank 1, window 10, busy 6    rank 1, steps 2, window 40, busy 30
    step 1, rank 1, window 30, busy 24
    """
    ones = pa.repeat(pa.scalar(1, pa.int64()), bubbles.ranks.num_rows)
    return BubblesByRank(
        ranks=_summed(bubbles.ranks.append_column("steps", ones), _OF_RANK, ("steps", *MEASURES)),
        stalls=_summed(bubbles.stalls, _OF_PAIR, ("stall_ns",)),
        steps=bubbles.steps,
        theory=bubbles.theory,
    )


def added_by_rank(parts: Sequence[BubblesByRank]) -> BubblesByRank:
    """Several pipelines and steps as one; their ratios in no order, without theory."""
    tables = {
        name: pa.concat_tables([getattr(part, name) for part in parts])
        for name in ("ranks", "stalls", "steps")
    }
    return BubblesByRank(
        ranks=_summed(tables["ranks"], _OF_RANK, ("steps", *MEASURES)),
        stalls=_summed(tables["stalls"], _OF_PAIR, ("stall_ns",)),
        steps=tables["steps"].combine_chunks(),
        theory=None,
    )


def finished_by_rank(run: Recording, found: BubblesByRank) -> BubblesByRank:
    """Of all pipelines, as `bubbles_by_rank` gives it."""
    return BubblesByRank(
        ranks=found.ranks,
        stalls=found.stalls,
        steps=ratios_in_order(run, found.steps),
        theory=theory_of_run(run, found.steps),
    )


def mean_by_rank(found: BubblesByRank) -> pa.Table:
    """Means over the steps per rank, in order of rank: group, rank, stages, then in ns window,
    busy, bubble, warm_up, stall, cool_down; and fraction = bubble / window.
    """
    means = found.ranks.select(_OF_RANK)
    for name in MEASURES:
        total = found.ranks[name].cast(pa.float64())
        means = means.append_column(name, pc.divide(total, found.ranks["steps"]))
    fraction = pc.divide(means["bubble_ns"], means["window_ns"])
    return means.append_column("fraction", fraction)


def _summed(table: pa.Table, keys: Sequence[str], values: Sequence[str]) -> pa.Table:
    """In order of the keys; ranks are in one group each."""
    return summed(table, keys, values).sort_by(
        [(key, "ascending") for key in keys if key != "group"]
    )
