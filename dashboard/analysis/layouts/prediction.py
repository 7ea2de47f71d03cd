"""The step of one layout, predicted from what the recorded one cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

import numpy as np

from dashboard.analysis.layouts.costs import ActionCosts, Key, TensorCosts
from dashboard.analysis.layouts.data_costs import DataCosts
from dashboard.analysis.layouts.layout import Layout
from dashboard.analysis.layouts.memory import MemoryCosts, held_share
from dashboard.analysis.pipeline.plans import Plan, plan
from dashboard.analysis.replay.other_plans import PlanPrediction, predict_plan
from dashboard.analysis.replay.outside_of_plan import Outside
from dashboard.analysis.replay.simulation import place_of, simulate
from dashboard.analysis.replay.step_model import StepModel
from dashboard.analysis.results import Result

LIMITING: Final = 0.1
"""Share of the step from which on something beside compute counts as what limits a layout."""

COMPUTE: Final = "compute"
TENSOR: Final = "tp communication"
PIPELINE: Final = "pp communication"
DATA: Final = "dp communication"
BUBBLE: Final = "bubble"
OUTSIDE: Final = "optimizer and other work"


@dataclass(kw_only=True, frozen=True)
class LayoutPrediction(Result):
    """What a step of a layout takes, ns; low_ns to high_ns over the simulations.

    sample_ns: step_ns per recorded microbatch of all data ranks, which compares layouts whatever
    their batch.
    shares: of the step, of the mean rank: compute; tp communication (inside actions); pp
    communication (by how much handing over lengthens the step); dp communication (the reduction
    of gradients that nothing hides); other work outside of the plan; and the bubble, which is the
    rest. They add up to 1.
    activations: the most that a rank holds, against the recorded layout (1.0: as much).
    peak_bytes: memory of the rank that holds most; None where the allocator was not sampled.
    limit: the largest share beside compute, if that is `LIMITING`. assumed: what the recording does
    not tell.
    """

    layout: Layout
    step_ns: float
    low_ns: float
    high_ns: float
    sample_ns: float
    shares: Mapping[str, float]
    bubble_fraction_of_window: float
    activations: float
    peak_bytes: float | None
    limit: str
    assumed: tuple[str, ...]


@dataclass(kw_only=True, frozen=True)
class LayoutCosts:
    """All that a prediction rests on; activations: of the recorded layout (`held_share`)."""

    model: StepModel
    actions: ActionCosts
    tensor: TensorCosts
    data: DataCosts
    memory: MemoryCosts | None
    here: Layout
    share: float
    is_share_assumed: bool
    activations: float


def predict_layout(costs: LayoutCosts, layout: Layout) -> LayoutPrediction:
    """The prediction for one layout."""
    made = plan(layout.schedule, p=layout.p, m=layout.m, v=layout.v)
    compute, tensor = _per_action(costs, layout)
    durations = {
        key: samples * (compute[key] + tensor[key]) / max(costs.actions.whole[key], 1.0)
        for key, samples in costs.model.durations.items()
    }
    model = replace(costs.model, durations=durations, outside=_outside(costs, layout))
    found = predict_plan(model, made)
    shares = _shares(costs, layout, made, model, found)
    limit = max((part for part in shares if part != COMPUTE), key=lambda part: shares[part])
    return LayoutPrediction(
        layout=layout,
        step_ns=found.step_ns,
        low_ns=found.low_ns,
        high_ns=found.high_ns,
        sample_ns=found.step_ns / layout.microbatches,
        shares=shares,
        bubble_fraction_of_window=found.bubble_fraction_of_window,
        activations=held_share(layout, made) / costs.activations,
        peak_bytes=costs.memory.peak(layout, made) if costs.memory else None,
        limit=limit if shares[limit] >= LIMITING else COMPUTE,
        assumed=tuple(dict.fromkeys((*found.assumed, *_assumed(costs, layout)))),
    )


def _per_action(costs: LayoutCosts, layout: Layout) -> tuple[dict[Key, float], dict[Key, float]]:
    """Compute and tensor-parallel communication of each recorded (stage, kind), ns."""
    ratio = (1 - costs.share) + costs.share * costs.here.t / layout.t
    compute = {key: spent * ratio / layout.cut for key, spent in costs.actions.compute.items()}
    each = costs.tensor.each_ns(layout.t, layout.cut)
    return compute, {key: costs.tensor.count[key] * each for key in compute}


def _outside(costs: LayoutCosts, layout: Layout) -> tuple[Outside, ...]:
    parts, recorded_parts = layout.p * layout.t, costs.here.p * costs.here.t
    return tuple(
        costs.data.outside(recorded, parts=parts, recorded_parts=recorded_parts, d=layout.d)
        for recorded in costs.model.outside
    )


def _shares(
    costs: LayoutCosts, layout: Layout, made: Plan, model: StepModel, found: PlanPrediction
) -> dict[str, float]:
    """Of the mean rank. Each rank does the p-th part of all actions."""
    step = max(found.step_ns, 1.0)
    compute, tensor = _per_action(costs, layout)
    ranks = range(layout.p)
    outside = [model.outside[place_of(rank, layout.p, len(model.outside))] for rank in ranks]
    reduction = fmean(float(found.reduction.mean()) for found in outside)
    shares = {
        COMPUTE: layout.m * sum(compute.values()) / layout.p / step,
        TENSOR: layout.m * sum(tensor.values()) / layout.p / step,
        PIPELINE: _hand_over_share(model, made),
        DATA: reduction / step,
        OUTSIDE: (fmean(float(found.whole.mean()) for found in outside) - reduction) / step,
    }
    return {**shares, BUBBLE: 1 - sum(shares.values())}


_STEPS: Final = 4


def _hand_over_share(model: StepModel, made: Plan) -> float:
    """By which share the step would be shorter if handing over took no time."""
    free = replace(model, hand_over=np.zeros_like(model.hand_over))
    times = [simulate(each, made, steps=_STEPS, seed=0).step_ns.mean() for each in (model, free)]
    return float(1 - times[1] / times[0]) if times[0] else 0.0


def _assumed(costs: LayoutCosts, layout: Layout) -> Iterator[str]:
    here = costs.here
    if layout.t != here.t:
        if costs.is_share_assumed:
            yield f"tensor ranks share {100 * costs.share:.0f} % of the compute"
        yield from costs.tensor.assumed(layout.t)
    if layout.cut != 1:
        yield "a smaller microbatch takes in proportion less"
    yield from costs.data.assumed(layout.d, layout.p * layout.t == here.p * here.t)
