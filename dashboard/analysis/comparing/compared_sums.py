"""What comparisons need of a run: sums by step, in place of rows per rank.

Both sides of a comparison are weighted means over ranks (corresponding_ranks.py), and few weights
differ: ranks that weigh the same in all comparisons are a stratum, and only its sums are kept. They
are whole numbers, so that parts of a run may be added in any grouping.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from dashboard.analysis.comparing.calls_by_step import calls_by_step
from dashboard.analysis.comparing.corresponding_ranks import Weights
from dashboard.analysis.pipeline.bubble_ratios import (
    PipelineSteps,
    joined_pipelines,
    pipeline_steps,
)
from dashboard.analysis.reduction import reduced
from dashboard.analysis.steps import wanted_steps
from dashboard.analysis.sums_by_step import SumsByStep, added
from dashboard.analysis.time_spent.time_by_operation import time_by_operation

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, slots=True, frozen=True)
class ComparedSums:
    """time: ns by stratum, category, kind, name and stage. calls: of all ranks, as `calls_by_step`
    has them. pipelines: what their bubbles are told by.
    """

    time: SumsByStep
    calls: SumsByStep
    pipelines: PipelineSteps


@dataclass(frozen=True)
class SumIn:
    """An analysis: the sums in these strata. Equal ones have equal answers.

    strata: of each rank of the run the number of its stratum.
    """

    strata: tuple[tuple[int, int], ...]

    def __call__(self, run: Recording, steps: Collection[int] | None = None) -> ComparedSums:
        """Of complete steps, or those of `steps`."""
        chosen = wanted_steps(run, steps)
        return reduced(
            (_of_rank(run, rank, self._number[rank], chosen) for rank in run.ranks), joined_sums
        )

    def among(self, ranks: Collection[int]) -> SumIn:
        """The same of a part of the run with these ranks."""
        return SumIn(tuple((rank, self._number[rank]) for rank in ranks))

    def weights(self, of_ranks: Weights) -> dict[int, float]:
        """By stratum, what each of its ranks weighs."""
        return {number: of_ranks.get(rank, 0.0) for rank, number in self.strata}

    @cached_property
    def _number(self) -> dict[int, int]:
        return dict(self.strata)


def strata(ranks: Collection[int], weightings: Sequence[Weights]) -> SumIn:
    """Strata in which ranks weigh the same in each of `weightings`, in order of their first rank.

    Ranks 0, 1, 2; 0 and 2 weigh ¼, 1 weighs ½ → strata 0, 1, 0
    """
    places: dict[tuple[float, ...], int] = {}
    found = []
    for rank in ranks:
        key = tuple(weights.get(rank, 0.0) for weights in weightings)
        found.append((rank, places.setdefault(key, len(places))))
    return SumIn(tuple(found))


def joined_sums(parts: Sequence[ComparedSums]) -> ComparedSums:
    """Of several ranks and steps."""
    return ComparedSums(
        time=added([part.time for part in parts]),
        calls=added([part.calls for part in parts]),
        pipelines=joined_pipelines([part.pipelines for part in parts]),
    )


def _of_rank(run: Recording, rank: int, stratum: int, steps: Sequence[int]) -> ComparedSums:
    time = time_by_operation(run, rank, steps)
    return ComparedSums(
        time=replace(time, keys=tuple((stratum, *key) for key in time.keys)),
        calls=calls_by_step(run, rank, steps),
        pipelines=pipeline_steps(run, rank, steps),
    )
