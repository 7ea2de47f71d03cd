"""Stragglers: who holds up the others, why, and what it costs the step.

Each suspect (lasting.py, jitter.py, links.py) is priced by a replay
of the dependency graph in which its excess is taken out: what it costs is the mean step time as
measured, less that of the replay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from dashboard.analysis.replay.graph import Graph, dependency_graph
from dashboard.analysis.replay.replay import step_times
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.replay.reservations import reservations
from dashboard.analysis.replay.scenarios import Durations, Scenario
from dashboard.analysis.replay.strands import operations_as_devices_ran
from dashboard.analysis.replay.whatif import Prediction, predictions, replay_error
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import Ints
from dashboard.analysis.stragglers.jitter import jitter
from dashboard.analysis.stragglers.lasting import slow_ranks, slow_stages
from dashboard.analysis.stragglers.links import slow_links
from dashboard.analysis.stragglers.work import (
    FEWEST_STEPS,
    Cause,
    Change,
    Evidence,
    Suspect,
    work_of,
)

if TYPE_CHECKING:
    from dashboard.runs import Recording

Confidence = Literal["high", "medium"]

WORTH: Final = 0.005
"""Share of the step time that a straggler must cost in the steps that it concerns."""
WORTH_OF_ALL: Final = 0.002
"""Share of the mean step time that it must cost over all steps."""
WORTH_OF_ONE: Final = 0.01
"""The same for what concerns a single step: one hiccup of the machine is no pattern, and must cost
more to be worth a line."""
_SURE: Final = 2.0
"""How often its excess must exceed what is noticed for a cause to be beyond doubt."""
_GOOD_REPLAY: Final = 0.01
_MOST_PRICED: Final = 20
"""Each price is a replay of all steps; the clearest suspects come first."""


@dataclass(kw_only=True, frozen=True)
class Straggler(Result):
    """One cause of lost time.

    rank, stage, src (with rank: the link from it to there) and group say who; None where it does
    not apply. slowdown: duration over the expected one, less 1; None where nothing was expected.
    ms_per_step: what the mean step would save without it; low_ms to high_ms: its bootstrap 95 %
    interval over the steps. share: of the mean step time. steps: those that it concerns.
    evidence: where it is seen, the largest excess first. seen_in: of a slow rank, the kinds of its
    work that make up the excess, the one that makes most first.
    """

    cause: Cause
    text: str
    rank: int | None
    stage: int | None
    src: int | None
    group: str | None
    steps: tuple[int, ...]
    slowdown: float | None
    ms_per_step: float
    low_ms: float | None
    high_ms: float | None
    share: float
    confidence: Confidence
    evidence: tuple[Evidence, ...]
    seen_in: tuple[str, ...]


@dataclass(kw_only=True, frozen=True)
class Stragglers(Result):
    """The stragglers of a run, the costliest first.

    steps: those looked at (the first of a run warms up and is left out). step_ns: their mean
    time. replay_error: by which share the unchanged replay is off. notes: what makes it less sure.
    """

    steps: tuple[int, ...]
    step_ns: float
    replay_error: float
    found: tuple[Straggler, ...]
    notes: tuple[str, ...]

    @property
    def is_telling(self) -> bool:
        """Whether there are steps enough that finding nothing says something."""
        return len(self.steps) >= FEWEST_STEPS


def find_stragglers(run: Recording, steps: Collection[int] | None = None) -> Stragglers:
    """All stragglers of these steps that are worth a line."""
    graph = run.answer(dependency_graph, steps)
    measured = step_times(graph, graph.time)
    sure = reservations(run)
    looked_at = len(measured.steps)
    notes = (*sure, *replayed_steps(run, steps).notes(looked_at), *_too_few(looked_at))
    suspects = _suspects(run, graph) if measured.steps and graph.pieces.num_rows else []
    error = replay_error(graph)
    is_sure = abs(error) < _GOOD_REPLAY and not sure
    prices = predictions(graph, (Scenario(name=s.cause, apply=_without(s)) for s in suspects))
    priced = [
        _priced(s, p, looked_at, is_sure=is_sure) for s, p in zip(suspects, prices, strict=True)
    ]
    worth = [found for found in priced if _is_worth_it(found, looked_at)]
    return Stragglers(
        steps=measured.steps,
        step_ns=measured.mean_ns,
        replay_error=error,
        found=tuple(sorted(worth, key=lambda found: -found.ms_per_step)),
        notes=notes,
    )


def _suspects(run: Recording, graph: Graph) -> list[Suspect]:
    """Those that are to be priced, the clearest first; what they were found by is gone by then."""
    work = work_of(run, graph)
    links = slow_links(operations_as_devices_ran(run, work.steps), work)
    found = [*slow_ranks(work), *slow_stages(work), *jitter(work), *links]
    found.sort(key=lambda suspect: -suspect.clearness)
    return found[:_MOST_PRICED]


def _too_few(steps: int) -> Iterator[str]:
    if steps < FEWEST_STEPS:
        said = f"{steps} step{'s' * (steps != 1)}"
        yield f"{said} to look at: nothing can be told of fewer than {FEWEST_STEPS}"


def _is_worth_it(found: Straggler, steps: int) -> bool:
    least = WORTH_OF_ALL if len(found.steps) > 1 else WORTH_OF_ONE
    where_it_is = found.share * steps / max(len(found.steps), 1)
    return found.share >= least and where_it_is >= WORTH


def _priced(suspect: Suspect, found: Prediction, steps: int, *, is_sure: bool) -> Straggler:
    step_ns = found.step_ns + found.saved_ns
    return Straggler(
        cause=suspect.cause,
        text=_text(suspect, steps),
        rank=suspect.rank,
        stage=suspect.stage,
        src=suspect.src,
        group=suspect.group,
        steps=suspect.steps,
        slowdown=suspect.slowdown,
        ms_per_step=found.saved_ns / 1e6,
        low_ms=None if found.low_ns is None else found.low_ns / 1e6,
        high_ms=None if found.high_ns is None else found.high_ns / 1e6,
        share=found.saved_ns / step_ns if step_ns else 0.0,
        confidence="high" if is_sure and suspect.clearness >= _SURE else "medium",
        evidence=suspect.evidence,
        seen_in=suspect.seen_in,
    )


def _without(suspect: Suspect) -> Callable[[Graph, Durations], Durations]:
    def apply(graph: Graph, before: Durations) -> Durations:
        return Durations(
            pieces=_shortened(before.pieces, suspect.pieces),
            transfers=_shortened(before.transfers, suspect.transfers),
        )

    return apply


def _shortened(durations: Ints, change: Change | None) -> Ints:
    found = durations.copy()
    if change is not None:
        found[change.rows] = np.minimum(found[change.rows], change.ns)
    return found


def _text(suspect: Suspect, steps: int) -> str:
    much = "" if suspect.slowdown is None else f"{100 * suspect.slowdown:.0f} % "
    who = f"rank {suspect.rank}"
    some = f"in {len(suspect.steps)} of {steps} step" + ("s" if steps > 1 else "")
    if suspect.cause == "slow stage":
        told = f"; only rank {suspect.rank} holds it" if suspect.alone else ""
        return f"stage {suspect.stage} computes {much}longer than the other stages{told}"
    if suspect.cause == "slow rank":
        seen = f" (in {' and '.join(suspect.seen_in)})" if suspect.seen_in else ""
        return f"{who} works {much}longer than the ranks that do the same{seen}"
    if suspect.cause == "slow steps":
        return f"{who} works {much}longer than usual {some}"
    if suspect.cause == "stalls":
        return f"{who} stalls in single actions for {much}of its work {some}"
    if suspect.cause == "slow link":
        link = f"{suspect.src} → {suspect.rank}" if suspect.group is None else suspect.group
        return f"link {link} takes {much}longer than its peers"
    return f"{who}: {suspect.cause} {some}"
