"""What would the step take under another plan: more microbatches, another schedule."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from dashboard.analysis.pipeline.actions import worked_on
from dashboard.analysis.pipeline.plans import SCHEDULES, Plan, in_flight, plan
from dashboard.analysis.replay.graph import Graph, dependency_graph
from dashboard.analysis.replay.scenarios import Scenario, as_recorded
from dashboard.analysis.replay.simulation import simulate
from dashboard.analysis.replay.step_model import StepModel, changed_model, step_model
from dashboard.analysis.results import Result
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

_REPEATS: Final = 10
"""Simulations of one plan, each with other draws."""
_STEPS: Final = 8
"""Steps of one simulation: the mean of so many varies little."""
_MOST_ACTIONS: Final = 200_000
"""Of one plan, in all simulations: some tenths of a second. Steps of more actions vary less."""


@dataclass(kw_only=True, frozen=True)
class PlanPrediction(Result):
    """The mean step time under a plan, ns.

    low_ns to high_ns: the least and the greatest of the simulations. microbatch_ns: step_ns / m,
        which is what counts where more microbatches are a larger batch.
    bubble_fraction_of_window: of the simulated steps.
    in_flight: the most microbatches (times stages) that a rank holds activations of.
    assumed: what the recording does not tell.
    """

    schedule: str
    p: int
    m: int
    v: int
    step_ns: float
    low_ns: float
    high_ns: float
    microbatch_ns: float
    bubble_fraction_of_window: float
    in_flight: int
    assumed: tuple[str, ...]


@dataclass(kw_only=True, frozen=True)
class OtherPlans(Result):
    """Predictions for a run, the least time per microbatch first.

    recorded: the same for the plan that was recorded; model_error: by which share that is off the
    measured mean, measured_ns.
    """

    measured_ns: float
    recorded: PlanPrediction
    model_error: float
    predictions: tuple[PlanPrediction, ...]


def other_plans(
    run: Recording,
    wanted: Sequence[Plan] | None = None,
    steps: Collection[int] | None = None,
    *,
    input_share: float | None = None,
    scenario: Scenario | None = None,
    graph: Graph | None = None,
) -> OtherPlans:
    """Predict each plan of `wanted`; without it, all schedules, and more microbatches.

    scenario: what else is otherwise; of it, what it does to actions and to messages of the
        pipeline counts, and not in `recorded`.
    graph: that of the replayed steps, if it is known.

    Raises:
        UsageError: the run has no pipeline schedule, work of some stages is missing, or the
            scenario names what is not there.
    """
    model = step_model(run, steps, input_share=input_share, graph=graph)
    recorded = predict_plan(model, recorded_plan(model))
    if scenario is not None:
        whole = run.answer(dependency_graph, steps)
        model = changed_model(model, whole, scenario.apply(whole, as_recorded(whole)))
    measured = float(model.step_ns.mean())
    chosen = usual_plans(model) if wanted is None else wanted
    found = [predict_plan(model, plan) for plan in chosen]
    return OtherPlans(
        measured_ns=measured,
        recorded=recorded,
        model_error=recorded.step_ns / measured - 1,
        predictions=tuple(sorted(found, key=lambda prediction: prediction.microbatch_ns)),
    )


def has_plans(run: Recording, steps: Collection[int] | None = None) -> bool:
    """Whether other plans can be predicted for a run: its last step holds what its plan says."""
    recorded = run.meta.schedule
    if recorded is None or not run.steps:
        return False
    done = worked_on(run, run.steps[-1])
    sizes = recorded.pipeline_size * recorded.virtual_stages, recorded.microbatches
    if sizes[0] != recorded.stages or len(done) != sizes[0] * sizes[1]:
        return False
    try:
        plan_like(run)
    except UsageError:
        return False
    return {stage for stage, _ in done} == set(range(recorded.stages))


def plan_like(
    run: Recording,
    *,
    schedule: str | None = None,
    m: int | None = None,
    v: int | None = None,
) -> Plan:
    """The run's plan with another schedule (`GPipe` or `ScheduleGPipe`), m or v.

    Another schedule has as many virtual stages as it must have, if `v` does not say otherwise.

    Raises:
        UsageError: the run has no pipeline schedule, or the plan cannot have these sizes.
    """
    recorded = run.meta.schedule
    if recorded is None:
        raise UsageError(
            f"{run.path}: no pipeline schedule was recorded, so there is no plan to vary; one of "
            "torch.distributed.pipelining is recorded by itself"
        )
    name = schedule or recorded.name
    name = name if name in SCHEDULES else f"Schedule{name}"
    made = SCHEDULES.get(name)
    usual = recorded.virtual_stages if schedule is None else (made and made.virtual) or 2
    return plan(
        name,
        p=recorded.pipeline_size,
        m=recorded.microbatches if m is None else m,
        v=usual if v is None else v,
    )


def usual_other_plans(run: Recording, steps: Collection[int]) -> OtherPlans:
    """`other_plans` with the usual ones, for who has the graph already."""
    return other_plans(run, None, steps, graph=run.answer(dependency_graph, steps))


def predict_plan(model: StepModel, plan: Plan) -> PlanPrediction:
    """Carry out `plan` many times; microbatches are as large as the recorded ones."""
    actions = sum(len(rank) for rank in plan.actions)
    steps = max(2, min(_STEPS, _MOST_ACTIONS // actions))
    repeats = max(2, min(_REPEATS, _MOST_ACTIONS // (actions * steps)))
    made = [simulate(model, plan, steps=steps, seed=seed) for seed in range(repeats)]
    means = np.array([simulation.step_ns.mean() for simulation in made])
    return PlanPrediction(
        schedule=plan.schedule,
        p=plan.p,
        m=plan.m,
        v=plan.v,
        step_ns=float(means.mean()),
        low_ns=float(means.min()),
        high_ns=float(means.max()),
        microbatch_ns=float(means.mean()) / plan.m,
        bubble_fraction_of_window=float(np.mean([s.bubble_fraction_of_window for s in made])),
        in_flight=max(in_flight(actions) for actions in plan.actions),
        assumed=tuple(_assumed(model, plan)),
    )


def recorded_plan(model: StepModel) -> Plan:
    """The plan that the run was recorded with.

    Raises:
        UsageError: its schedule is none that we can make plans of.
    """
    return plan(model.schedule, p=model.p, m=model.m, v=model.v)


def usual_plans(model: StepModel) -> list[Plan]:
    """All schedules that can have the run's sizes, and twice and four times the microbatches."""
    recorded = (model.schedule, model.m, model.v)
    sizes = [(model.schedule, factor * model.m, model.v) for factor in (2, 4)]
    for name, made in SCHEDULES.items():
        size = (name, model.m, made.virtual or max(2, model.v))
        sizes += [size] if size != recorded else []
    found = []
    for name, m, v in sizes:
        try:
            found.append(plan(name, p=model.p, m=m, v=v))
        except UsageError:  # this schedule cannot have these sizes
            continue
    return found


def _assumed(model: StepModel, plan: Plan) -> Iterator[str]:
    if plan.splits_backward and model.is_share_assumed:
        yield f"the input part takes {100 * model.input_share:.0f} % of a backward"
    if plan.p * plan.v != model.stages:
        yield "layers cost the same throughout a recorded stage"
