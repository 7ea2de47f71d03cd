"""A step's actions as measured and as predicted: when each would be done if something changed.

Where only durations change, the recorded graph is replayed, and each action lies where its pieces
come to lie. Where the plan changes, the step model carries it out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.plans import Plan
from dashboard.analysis.replay.graph import Graph, dependency_graph
from dashboard.analysis.replay.other_plans import PlanPrediction, predict_plan
from dashboard.analysis.replay.replay import replay, step_times
from dashboard.analysis.replay.scenarios import Scenario, as_recorded, steps_of
from dashboard.analysis.replay.simulation import simulate
from dashboard.analysis.replay.step_model import changed_model, step_model
from dashboard.analysis.replay.whatif import weights_with
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import Ints

if TYPE_CHECKING:
    from dashboard.runs import Recording

_ACTION: Final = ("rank", "stage", "kind", "microbatch")
_STEPS: Final = 2
"""Of the simulation that is drawn: the first one fills the pipeline."""
_SEED: Final = 0
"""Fixed, so that the same choice is always drawn alike."""


@dataclass(kw_only=True, frozen=True)
class PredictedStep(Result):
    """step: the one that is drawn, whose time is nearest to the median. measured, predicted: rank,
    stage, kind, microbatch, start and duration (ns), start counted from the first action's. Both
    are empty where no action has a stage and a microbatch.
    """

    step: int
    measured: pa.Table
    predicted: pa.Table


def replayed_step(
    run: Recording, scenario: Scenario, ranks: Sequence[int], steps: Collection[int] | None = None
) -> PredictedStep:
    """A step of these ranks as recorded, and replayed in `scenario`.

    Raises:
        UsageError: the scenario names a stage or dimension that the run does not have.
    """
    graph = run.answer(dependency_graph, steps)
    step = typical_step(graph)
    recorded = as_recorded(graph)
    changed = scenario.apply(graph, recorded)
    times = replay(graph, weights_with(graph, changed))
    return PredictedStep(
        step=step,
        measured=_actions(graph, recorded.pieces, graph.time, step, ranks),
        predicted=_actions(graph, changed.pieces, times, step, ranks),
    )


def typical_step(graph: Graph) -> int:
    """The measured step whose time is nearest to the median, the first of several; -1 without."""
    measured = step_times(graph, graph.time)
    if not measured.steps:
        return -1
    distance = np.abs(measured.lengths - np.median(measured.lengths))
    return measured.steps[int(np.argmin(distance))]


def planned_step(
    run: Recording,
    scenario: Scenario,
    plan: Plan,
    ranks: Sequence[int],
    steps: Collection[int] | None = None,
) -> tuple[PlanPrediction, PredictedStep]:
    """`plan` carried out with the costs of `scenario`: its step time, and a step of it.

    Of the scenario only what it does to actions and to messages of the pipeline counts.

    Raises:
        UsageError: work of some stages is missing, or the scenario names what is not there.
    """
    graph = run.answer(dependency_graph, steps)
    changed = scenario.apply(graph, as_recorded(graph))
    model = changed_model(run.answer(step_model, steps), graph, changed)
    drawn = simulate(model, plan, steps=_STEPS, seed=_SEED).last
    rows = [
        {name: getattr(action, name) for name in (*_ACTION, "start", "duration")}
        | {"rank": ranks[action.rank]}
        for action in drawn
    ]
    step = typical_step(graph)
    as_measured = _actions(graph, as_recorded(graph).pieces, graph.time, step, ranks)
    found = pa.Table.from_pylist(rows, schema=as_measured.schema)
    return predict_plan(model, plan), PredictedStep(
        step=step, measured=as_measured, predicted=_from_first(found)
    )


def _actions(
    graph: Graph, duration: Ints, times: Ints, step: int, ranks: Sequence[int]
) -> pa.Table:
    """The actions of a step if pieces take `duration` and points lie at `times`."""
    table = graph.pieces.select(_ACTION).append_column("edge", graph.pieces["edge"])
    start = _starts(graph, duration, times)
    table = table.append_column("start", pa.array(start))
    table = table.append_column("end", pa.array(start + duration))
    chosen = (
        pc.equal(graph.pieces["category"], "compute").to_numpy()
        & pc.is_valid(graph.pieces["stage"]).to_numpy()
        & pc.is_valid(graph.pieces["microbatch"]).to_numpy()
        & np.isin(graph.pieces["rank"].to_numpy(), ranks)
        & (steps_of(graph) == step)
    )
    grouped = table.filter(pa.array(chosen)).group_by([*_ACTION], use_threads=False)
    found = grouped.aggregate([("start", "min"), ("end", "max")])
    columns = {name: found[name] for name in _ACTION}
    columns["start"] = found["start_min"]
    columns["duration"] = pc.subtract(found["end_max"], found["start_min"])
    return _from_first(pa.table(columns))


def _starts(graph: Graph, duration: Ints, times: Ints) -> Ints:
    """When each piece begins: the pieces of an edge follow each other from its source on."""
    edge = graph.pieces["edge"].to_numpy()
    order = np.lexsort((graph.pieces["start"].to_numpy(), edge))
    before = np.cumsum(duration[order]) - duration[order]
    first = np.ones(len(order), bool)
    first[1:] = np.diff(edge[order]) != 0
    of_first = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    start = np.empty(len(order), np.int64)
    start[order] = times[graph.source[edge[order]]] + before - before[of_first]
    return start


def _from_first(actions: pa.Table) -> pa.Table:
    """In order of start, which is counted from the first."""
    if not actions.num_rows:
        return actions
    start = pc.subtract(actions["start"], pc.min(actions["start"]))
    at = actions.schema.get_field_index("start")
    return actions.set_column(at, "start", start).sort_by("start")
