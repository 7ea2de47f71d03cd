"""What to do about a run: its most costly troubles, each with what mending it is worth.

Every number is by replay (whatif.py): the mean step time as measured, less that of the same steps
with the trouble taken out. What a replay cannot price is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.bubble_summary import ratios
from dashboard.analysis.pipeline.bubbles_by_rank import bubbles_by_rank
from dashboard.analysis.replay.graph import Graph, dependency_graph
from dashboard.analysis.replay.other_plans import has_plans, usual_other_plans
from dashboard.analysis.replay.replay import step_times
from dashboard.analysis.replay.reservations import reservations
from dashboard.analysis.replay.scenarios import (
    TOLERANCE,
    Scenario,
    as_recorded,
    balanced_stages,
    faster_communication,
    no_stragglers,
)
from dashboard.analysis.replay.whatif import Prediction, dimensions, predictions
from dashboard.analysis.results import Result
from dashboard.analysis.stragglers.stragglers import Stragglers, find_stragglers
from dashboard.analysis.stragglers.work import FEWEST_STEPS

if TYPE_CHECKING:
    from dashboard.runs import Recording

Confidence = Literal["high", "medium", "low"]

MOST: Final = 5
WORTH_SAYING: Final = 0.01
"""Share of the step time below which nothing is a finding."""

_UNBALANCED: Final = 0.05
"""By which share a stage must exceed the median of the others: less is the noise of machines."""
_GOOD_REPLAY: Final = 0.01
_MAINLY: Final = 0.5
"""Of what is saved without any action beyond its usual time, the share from which on stragglers
that have a name of their own say it all."""


@dataclass(kw_only=True, frozen=True)
class Finding(Result):
    """One trouble, in a sentence.

    ms_per_step: what mending it saves of step_ms; low_ms to high_ms its 95 % interval over the
    steps, None where there is none. confidence: `high` if the interval leaves out 0 and the
    unchanged replay is off by less than 1 %; `medium` if not, or if the replay's notes say that it
    may not hold; `low` for the schedule's own bubble, which is worth no replay but a formula.
    evidence: what was measured. page: the page of the dashboard that shows it.
    """

    text: str
    ms_per_step: float
    low_ms: float | None
    high_ms: float | None
    step_ms: float
    confidence: Confidence
    evidence: tuple[str, ...]
    page: str


def findings(run: Recording, steps: Collection[int] | None = None) -> list[Finding]:
    """At most `MOST`, the one that saves most first; empty if nothing stands out.

    The bubble that the schedule has by design comes last, whatever its size: it is mended by
    another plan, not by mending what is slow.
    """
    graph = run.answer(dependency_graph, steps)
    if not graph.steps:
        return []
    stragglers = run.answer(find_stragglers, steps)
    named = [*_named(stragglers)]
    explained = sum(finding.ms_per_step for finding in named)
    asked = [
        *_imbalance(graph, stragglers),
        *_variation(run, graph, explained),
        *_communication(graph),
    ]
    found = [*named, *_priced(run, graph, asked, stragglers.replay_error)]
    found = [f for f in found if 0 < WORTH_SAYING * f.step_ms <= f.ms_per_step]
    found.sort(key=lambda finding: -finding.ms_per_step)
    by_design = [*_by_design(run, graph, steps)]
    return found[: MOST - len(by_design)] + by_design


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + "."


@dataclass(kw_only=True, frozen=True)
class _Asked:
    """What may be a finding, before it is priced.

    scenarios: how it would be mended; the last one completely. text has places for what that saves
    and the step. beyond_ms: it is none if half of what it saves is no more than that.
    """

    scenarios: tuple[Scenario, ...]
    text: str
    evidence: Callable[[Sequence[Prediction]], tuple[str, ...]]
    page: str
    beyond_ms: float = -inf


def _imbalance(graph: Graph, stragglers: Stragglers) -> Iterator[_Asked]:
    totals = _of_fastest_ranks(graph)
    if len(totals) < 2:
        return
    slowest = max(totals, key=lambda stage: totals[stage])
    others = median(total for stage, total in totals.items() if stage != slowest)
    if others <= 0 or totals[slowest] < (1 + _UNBALANCED) * others:
        return
    per_step = [total / len(graph.steps) / 1e6 for total in (totals[slowest], others)]
    told = (
        f"stage {slowest} computes {per_step[0]:.1f} ms per step, the median of the other "
        f"stages {per_step[1]:.1f} ms"
    )
    yield _Asked(
        scenarios=(balanced_stages(),),
        text=f"stage {slowest} computes {100 * (totals[slowest] / others - 1):.0f} % longer than "
        "the median of the other stages; balancing the stages is worth {saved} of {step} ms per "
        "step",
        evidence=lambda found: (told, *_if_its_machine_is_slow(stragglers, slowest)),
        page="/pipeline",
    )


def _if_its_machine_is_slow(stragglers: Stragglers, stage: int) -> Iterator[str]:
    """What the search for stragglers says of a stage that only one rank holds: nobody can tell
    whether its part of the model is larger or its machine slower, and the two are worth different
    sums.
    """
    for found in stragglers.found:
        if found.cause == "slow stage" and found.stage == stage and found.rank is not None:
            yield (
                f"if it is the machine of rank {found.rank} that is slow, as fast as the others it "
                f"would save {found.ms_per_step:.1f} ms"
            )


def _of_fastest_ranks(graph: Graph) -> dict[int, int]:
    """Compute per stage over all steps, ns, of the fastest rank that holds it: if only one of
    several is slow, it is that rank and not the stage.
    """
    pieces = graph.pieces.append_column("ns", pa.array(as_recorded(graph).pieces))
    is_compute = pc.equal(pieces["category"].cast(pa.string()), "compute")
    of_stages = pieces.filter(pc.and_(is_compute, pc.is_valid(pieces["stage"])))
    by_rank = of_stages.group_by(["stage", "rank"], use_threads=False).aggregate([("ns", "sum")])
    fastest = by_rank.group_by("stage", use_threads=False).aggregate([("ns_sum", "min")])
    return dict(zip(fastest["stage"].to_pylist(), fastest["ns_sum_min"].to_pylist(), strict=True))


def _named(stragglers: Stragglers) -> Iterator[Finding]:
    """What holds up the others, but for stages: those are balanced instead."""
    for straggler in stragglers.found:
        if straggler.cause == "slow stage":
            continue
        worst = straggler.evidence[:1]
        where = [f"worst in step {seen.step} of rank {seen.rank}" for seen in worst]
        yield Finding(
            text=(
                f"{straggler.text}: without that, {straggler.ms_per_step:.1f} of "
                f"{stragglers.step_ns / 1e6:.1f} ms per step would be saved"
            ),
            ms_per_step=straggler.ms_per_step,
            low_ms=straggler.low_ms,
            high_ms=straggler.high_ms,
            step_ms=stragglers.step_ns / 1e6,
            confidence=straggler.confidence,
            evidence=(*where, _unchanged(stragglers.replay_error)),
            page="/stragglers",
        )


def _variation(run: Recording, graph: Graph, explained_ms: float) -> Iterator[_Asked]:
    """What actions take beyond their usual time, where that is not mainly due to stragglers."""
    if len(step_times(graph, graph.time).steps) < FEWEST_STEPS:
        return
    recorded = as_recorded(graph)
    changed = no_stragglers().apply(graph, recorded)
    excess = int((recorded.pieces - changed.pieces).sum())
    ranks = len(np.unique(graph.rank[graph.rank >= 0]))
    unsure = reservations(run)
    told = (
        f"beyond their usual time they take {excess / len(graph.steps) / ranks / 1e6:.1f} ms "
        "per step and rank"
    )
    yield _Asked(
        scenarios=(Scenario(name="no stragglers", apply=lambda graph, before: changed),),
        text=f"actions vary{'' if unsure else ', and no rank stands out'}: if none took over "
        f"{100 * TOLERANCE:.0f} % longer than usual, {{saved}} of {{step}} ms per step would be "
        "saved",
        evidence=lambda found: (told, *unsure),
        page="/whatif",
        beyond_ms=explained_ms,
    )


def _communication(graph: Graph) -> Iterator[_Asked]:
    for dim in dimensions(graph):
        told = f"the transfers of {dim} that work waited for, as measured"
        yield _Asked(
            scenarios=(faster_communication(dim, 2), faster_communication(dim, inf)),
            text=f"communication of {dim} holds up the step: if it took no time, {{saved}} of "
            "{step} ms per step would be saved",
            evidence=lambda found, told=told: (  # type: ignore[misc]
                f"twice as fast, it would save {found[0].saved_ns / 1e6:.1f} ms",
                told,
            ),
            page="/communication",
        )


def _priced(
    run: Recording, graph: Graph, asked: Sequence[_Asked], replay_error: float
) -> Iterator[Finding]:
    """What of it is a finding."""
    prices = predictions(graph, [scenario for one in asked for scenario in one.scenarios])
    for one in asked:
        priced = [next(prices) for _ in one.scenarios]
        found = priced[-1]
        step_ms = (found.step_ns + found.saved_ns) / 1e6
        if not one.beyond_ms < _MAINLY * found.saved_ns / 1e6:
            continue
        yield Finding(
            text=one.text.format(saved=f"{found.saved_ns / 1e6:.1f}", step=f"{step_ms:.1f}"),
            ms_per_step=found.saved_ns / 1e6,
            low_ms=None if found.low_ns is None else found.low_ns / 1e6,
            high_ms=None if found.high_ns is None else found.high_ns / 1e6,
            step_ms=step_ms,
            confidence=_confidence(run, found, replay_error),
            evidence=(*one.evidence(priced), _unchanged(replay_error)),
            page=one.page,
        )


def _unchanged(error: float) -> str:
    return f"replayed unchanged, the steps are off by {100 * error:.2g} %"


def _confidence(run: Recording, found: Prediction, error: float) -> Confidence:
    sure = found.low_ns is not None and found.low_ns > 0
    return "high" if sure and abs(error) < _GOOD_REPLAY and not reservations(run) else "medium"


def _better_plans(run: Recording, steps: Collection[int] | None) -> Iterator[str]:
    """What the step model predicts of the best plan of as many microbatches, and of more."""
    if not run.answer(has_plans):
        return
    found = run.answer(usual_other_plans, steps)
    recorded = found.recorded
    same = [plan for plan in found.predictions if plan.m == recorded.m]
    more = [plan for plan in found.predictions if plan.m > recorded.m]
    for what, plans in (("", same), (" per microbatch", more)):
        best = min(plans, key=lambda plan: plan.microbatch_ns, default=None)
        if best is not None and best.microbatch_ns < recorded.microbatch_ns:
            name = best.schedule.removeprefix("Schedule")
            saved = 100 * (1 - best.microbatch_ns / recorded.microbatch_ns)
            yield f"{name} with {best.m} microbatches is predicted to take {saved:.0f} % less{what}"


def _by_design(run: Recording, graph: Graph, steps: Collection[int] | None) -> Iterator[Finding]:
    """The bubble that the schedule itself has, of the time that the ranks really worked: by
    theory, or where that cannot tell, by the plan bound.
    """
    bubbles = run.answer(bubbles_by_rank, steps)
    if not bubbles.ranks.num_rows:
        return
    theory = bubbles.theory
    if theory is not None and theory.over_ideal is not None:
        over_ideal, share = theory.over_ideal, theory.fraction_of_window or 0.0
        what = f"{theory.schedule} with {theory.p} pipeline ranks and {theory.m} microbatches"
        how, source = "by design", "; ".join(filter(None, (theory.source, theory.note)))
    else:
        _, bound = ratios(bubbles)
        if bound.over_ideal is None or bound.fraction_of_window is None:
            return
        over_ideal, share = bound.over_ideal, bound.fraction_of_window
        what, how = "the pipeline", "even if nothing waited for communication"
        source = "the recorded actions, replayed without messages (the plan bound)"
    busy, count = (pc.sum(bubbles.ranks[name]).as_py() for name in ("busy_ns", "steps"))
    saved = over_ideal * (busy / count) / 1e6
    step_ms = step_times(graph, graph.time).mean_ns / 1e6
    if not 0 < WORTH_SAYING * step_ms <= saved:
        return
    yield Finding(
        text=(
            f"{what} is idle {100 * share:.0f} % of the window {how}, {saved:.1f} of "
            f"{step_ms:.1f} ms per step: more microbatches or virtual stages shrink that"
        ),
        ms_per_step=saved,
        low_ms=None,
        high_ms=None,
        step_ms=step_ms,
        confidence="low",
        evidence=(source, *_better_plans(run, steps)),
        page="/whatif" if run.answer(has_plans) else "/pipeline",
    )
