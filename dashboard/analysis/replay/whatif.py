"""What would the step take if something were otherwise: a replay of the run's dependency graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from dashboard.analysis.replay.graph import Graph, dependency_graph
from dashboard.analysis.replay.replay import (
    StepTimes,
    step_times,
    with_pieces,
    with_transfers,
)
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.replay.replays import replays
from dashboard.analysis.replay.reservations import reservations
from dashboard.analysis.replay.scenarios import (
    Durations,
    Scenario,
    as_recorded,
    balanced_stages,
    faster_communication,
    no_stragglers,
    stage_totals,
)
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import Ints

if TYPE_CHECKING:
    from dashboard.runs import Recording

_RESAMPLES: Final = 2_000
_SEED: Final = 20_260_101
"""Fixed, so that the same run always gives the same interval."""
_FREE: Final = float("inf")


@dataclass(kw_only=True, frozen=True)
class Prediction(Result):
    """The mean step time of a scenario, and what it saves of the measured one, ns per step.

    low_ns to high_ns: bootstrap 95 % interval of `saved_ns` over steps; both None with one step.
    """

    scenario: str
    step_ns: float
    saved_ns: float
    low_ns: float | None
    high_ns: float | None


@dataclass(kw_only=True, frozen=True)
class WhatIf(Result):
    """Predictions for a run, the one that saves most first.

    steps: those whose times are predicted. measured_ns: their mean time. replayed_ns: the same from
    the unchanged graph; replay_error: by which share that is off. notes: what to know of them.
    """

    steps: tuple[int, ...]
    measured_ns: float
    replayed_ns: float
    replay_error: float
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...]


def what_if(
    run: Recording,
    scenarios: Sequence[Scenario] | None = None,
    steps: Collection[int] | None = None,
) -> WhatIf:
    """Predict each of `scenarios`; without them those that make sense for the run.

    Raises:
        UsageError: a scenario names a stage or dimension that the run does not have.
    """
    graph = run.answer(dependency_graph, steps)
    measured = step_times(graph, graph.time)
    chosen = usual_scenarios(graph) if scenarios is None else scenarios
    found = list(predictions(graph, chosen)) if measured.steps else []
    found.sort(key=lambda prediction: prediction.step_ns)
    return WhatIf(
        steps=measured.steps,
        measured_ns=measured.mean_ns,
        replayed_ns=_replayed(graph).mean_ns,
        replay_error=replay_error(graph),
        predictions=tuple(found),
        notes=(*reservations(run), *replayed_steps(run, steps).notes(len(measured.steps))),
    )


def predictions(graph: Graph, scenarios: Iterable[Scenario]) -> Iterator[Prediction]:
    """The step time in each of the scenarios."""
    before = step_times(graph, graph.time)
    recorded = as_recorded(graph)
    names: deque[str] = deque()

    def weights() -> Iterator[Ints]:
        for scenario in scenarios:
            names.append(scenario.name)
            yield weights_with(graph, scenario.apply(graph, recorded))

    for times in replays(graph, weights()):
        after = step_times(graph, times)
        low, high = _interval(before.lengths - after.lengths)
        yield Prediction(
            scenario=names.popleft(),
            step_ns=after.mean_ns,
            saved_ns=before.mean_ns - after.mean_ns,
            low_ns=low,
            high_ns=high,
        )


def weights_with(graph: Graph, durations: Durations) -> Ints:
    """The weights of all edges if pieces and transfers take `durations`."""
    return with_transfers(graph, with_pieces(graph, durations.pieces), durations.transfers)


def usual_scenarios(graph: Graph) -> list[Scenario]:
    """No stragglers, balanced stages if there are several, and each dimension twice as fast and
    free.
    """
    found = [no_stragglers()]
    if len(stage_totals(graph, as_recorded(graph))) > 1:
        found.append(balanced_stages())
    for dim in dimensions(graph):
        found += [faster_communication(dim, 2), faster_communication(dim, _FREE)]
    return found


def dimensions(graph: Graph) -> list[str]:
    """The mesh dimensions whose transfers somebody waited for, in order."""
    found = pc.unique(graph.transfers["category"]).to_pylist()
    return sorted(category.removeprefix("comm:") for category in found)


def replay_error(graph: Graph) -> float:
    """By which share the mean step time of the unchanged replay is off; NaN without step time."""
    measured = step_times(graph, graph.time).mean_ns
    return _replayed(graph).mean_ns / measured - 1 if measured else float("nan")


def _replayed(graph: Graph) -> StepTimes:
    """Of the unchanged graph."""
    return step_times(graph, next(replays(graph, [graph.weight])))


def _interval(saved: Ints) -> tuple[float | None, float | None]:
    if len(saved) < 2:
        return None, None
    chosen = np.random.default_rng(_SEED).integers(0, len(saved), (_RESAMPLES, len(saved)))
    low, high = np.percentile(saved[chosen].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
