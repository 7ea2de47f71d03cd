"""What is asked of each run for one or several comparisons: the same for all of them, so that a run
is looked through once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dashboard.analysis.comparing.compared_steps import pick_steps, steps_of_repeat, warm_steps
from dashboard.analysis.comparing.compared_sums import ComparedSums, SumIn, strata
from dashboard.analysis.comparing.corresponding_ranks import Weights, match

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, slots=True, frozen=True)
class Question:
    """sums: the analysis; steps: all that any comparison looks at."""

    sums: SumIn
    steps: tuple[int, ...]

    def of(self, run: Recording) -> ComparedSums:
        """The answer."""
        return run.answer(self.sums, self.steps)


Questions: TypeAlias = Mapping["Recording", Question]


def questions(
    runs: Sequence[Recording],
    steps: Collection[int] | None = None,
    *,
    repeats: Sequence[Recording] = (),
) -> Questions:
    """Of each of `runs` and `repeats`, if the others of `runs` are compared with the first, in
    `steps`; see `compare`.
    """
    first, *others = runs
    weightings: dict[Recording, list[Weights]] = defaultdict(list)
    looked_at: dict[Recording, set[int]] = defaultdict(set)
    for run in runs:
        looked_at[run].update(warm_steps(run, steps))
    for other in others:
        matching = match(first, other)
        weightings[first].append(matching.a)
        weightings[other].append(matching.b)
        steps_a, _, _ = pick_steps((first, ""), (other, ""), steps)
        for again in repeats:
            weightings[again].append(match(again, other).a)
            looked_at[again].update(steps_of_repeat(again, steps_a))
    return {
        run: Question(sums=strata(run.ranks, weightings[run]), steps=tuple(sorted(chosen)))
        for run, chosen in looked_at.items()
    }
