"""What a run's numbers say in a sentence: the largest things that a step loses time to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

from dashboard.analysis.accounting import account
from dashboard.analysis.actions import pipeline_actions
from dashboard.analysis.bubble_summary import ratios
from dashboard.analysis.bubbles import measure_bubbles
from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from dashboard.runs import Recording

_WORTH_SAYING: Final = 0.05
"""Share of the step time below which nothing is a finding: less is the noise of most machines."""


@dataclass(kw_only=True, frozen=True)
class Finding(Result):
    """One sentence, and the ms per step that it is about (an upper bound of what a mend saves)."""

    text: str
    ms_per_step: float


def findings(run: Recording, steps: Collection[int] | None = None) -> list[Finding]:
    """All findings, the largest first; empty if nothing stands out.

    The bubble that the schedule has by design comes last, whatever its size: it is mended by
    another plan, not by mending what is slow.
    """
    step_ms = _step_ms(run, steps)
    if not step_ms:
        return []
    found = [*_slow_stage(run, steps), *_bubble(run, steps), *_exposed(run, steps)]
    found.sort(key=lambda finding: -finding.ms_per_step)
    found += _by_design(run, steps)
    return [finding for finding in found if finding.ms_per_step >= _WORTH_SAYING * step_ms]


def _step_ms(run: Recording, steps: Collection[int] | None) -> float:
    durations = run.answer(account, steps).windows["duration"].to_pylist()
    return fmean(durations) / 1e6 if durations else 0.0


def _slow_stage(run: Recording, steps: Collection[int] | None) -> Iterator[Finding]:
    """The stage whose work per step is longest, against the median of the others."""
    busy: dict[int, list[float]] = defaultdict(list)
    for actions in pipeline_actions(run, steps).values():
        per_stage: dict[int, float] = defaultdict(float)
        ranks: dict[int, set[int]] = defaultdict(set)
        for action in actions:
            per_stage[action.stage] += action.duration / 1e6
            ranks[action.stage].add(action.rank)
        for stage, total in per_stage.items():
            busy[stage].append(total / len(ranks[stage]))
    if len(busy) < 2:
        return
    means = {stage: median(values) for stage, values in busy.items()}
    slowest = max(means, key=lambda stage: means[stage])
    others = median(value for stage, value in means.items() if stage != slowest)
    excess = means[slowest] - others
    if others > 0 and excess / others >= _WORTH_SAYING:
        yield Finding(
            text=(
                f"stage {slowest} works {100 * excess / others:.0f} % longer than the median of "
                f"the other stages: {means[slowest]:.1f} ms against {others:.1f} ms per step"
            ),
            ms_per_step=excess,
        )


def _bubble(run: Recording, steps: Collection[int] | None) -> Iterator[Finding]:
    """Pipeline window beyond what the plan would need if nothing waited for communication."""
    rows = [
        row
        for row in run.answer(measure_bubbles, steps).steps.to_pylist()
        if row["plan_bound_fraction_of_window"] is not None
    ]
    if not rows:
        return
    excess, share, bound = [], [], []
    for row in rows:
        busy_share = 1 - row["bubble_fraction_of_window"]
        least = row["window_ns"] * busy_share / (1 - row["plan_bound_fraction_of_window"])
        excess.append((row["window_ns"] - least) / 1e6)
        share.append(row["bubble_fraction_of_window"])
        bound.append(row["plan_bound_fraction_of_window"])
    yield Finding(
        text=(
            f"the pipeline is idle {100 * median(share):.0f} % of its window, "
            f"{100 * median(bound):.0f} % if nothing waited for communication: "
            f"{median(excess):.1f} ms per step are lost to waiting beyond the plan"
        ),
        ms_per_step=median(excess),
    )


def _by_design(run: Recording, steps: Collection[int] | None) -> Iterator[Finding]:
    """The bubble that the schedule itself has, of the time that the ranks really worked: by
    theory, or where there is no closed form, by the plan bound.
    """
    bubbles = run.answer(measure_bubbles, steps)
    if not bubbles.ranks.num_rows:
        return
    theory = bubbles.theory
    if theory is not None and theory.over_ideal is not None:
        over_ideal, share = theory.over_ideal, theory.fraction_of_window or 0.0
        what = f"{theory.schedule} with {theory.p} pipeline ranks and {theory.m} microbatches"
        how = "by design"
    else:
        _, bound = ratios(bubbles)
        if bound.over_ideal is None or bound.fraction_of_window is None:
            return
        over_ideal, share = bound.over_ideal, bound.fraction_of_window
        what, how = "the pipeline", "even if nothing waited for communication"
    ms = over_ideal * fmean(bubbles.ranks["busy_ns"].to_pylist()) / 1e6
    yield Finding(
        text=(
            f"{what} is idle {100 * share:.0f} % of the window {how}, {ms:.1f} ms per step: more "
            "microbatches or virtual stages shrink that"
        ),
        ms_per_step=ms,
    )


def _exposed(run: Recording, steps: Collection[int] | None) -> Iterator[Finding]:
    """Communication inside the step that no compute hides, other than the pipeline's waits."""
    exposed: dict[str, list[int]] = defaultdict(list)
    for row in run.answer(account, steps).overlap.to_pylist():
        exposed[row["dim"]].append(row["exposed_ns"])
    for dim, values in exposed.items():
        if dim != "pp":
            ms = fmean(values) / 1e6
            yield Finding(
                text=f"{ms:.1f} ms of {dim} communication per step is not hidden by compute",
                ms_per_step=ms,
            )
