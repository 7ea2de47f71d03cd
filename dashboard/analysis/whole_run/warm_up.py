"""Does the first step of a run, in which much is set up, stand out and bend the mean step?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from dashboard.runs import Recording

NOTICED: Final = 0.02
"""By which share the first step must lengthen the mean step: as much as a comparison marks."""
FEWEST_OTHERS: Final = 3
"""Steps without which nobody can tell what is usual."""


@dataclass(kw_only=True, frozen=True)
class WarmUp(Result):
    """A first step that is longer than the others: buffers, connections and compiled code are
    made in it.

    step_ns: how long it took; usual_ns: the median of the others. lengthens: by which share the
    mean over all steps is longer than the mean without it. next_step: the first of the others.
    """

    step: int
    step_ns: float
    usual_ns: float
    lengthens: float
    next_step: int

    def __str__(self) -> str:
        return (
            f"Step {self.step}, the run's first, took {self.step_ns / 1e6:,.1f} ms, the median of "
            f"the others is {self.usual_ns / 1e6:,.1f} ms: with it the mean step is "
            f"{100 * self.lengthens:.0f} % longer"
        )


def warm_up(run: Recording, steps: Sequence[int], times_ns: Sequence[float]) -> WarmUp | None:
    """The run's first step if it is among `steps` (in order, with their times) and lengthens
    their mean by `NOTICED` or more.

    First 300, then 100, 100, 100 → 300 against 100; the mean of 150 is 50 % longer
    """
    if len(steps) <= FEWEST_OTHERS or steps[0] != run.steps[0]:
        return None
    first, *others = times_ns
    without = fmean(others)
    lengthens = fmean(times_ns) / without - 1 if without else 0.0
    if lengthens < NOTICED:
        return None
    return WarmUp(
        step=steps[0],
        step_ns=first,
        usual_ns=median(others),
        lengthens=lengthens,
        next_step=steps[1],
    )
