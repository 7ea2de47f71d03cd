"""From one recorded run, the step time of other splits over pipeline, tensor and data ranks.

Of an action, compute shrinks with the tensor ranks that share it, and what else lies in it is the
tensor-parallel communication, of which each operation costs what layout_costs.py says. The plan is
then carried out by the step model (step_model.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from dashboard.analysis.layout_costs import ActionCosts, TensorCosts, action_costs, tensor_costs
from dashboard.analysis.other_plans import predict_plan, recorded_plan
from dashboard.analysis.plans import Plan, in_flight, plan
from dashboard.analysis.results import Result
from dashboard.analysis.step_model import StepModel, step_model
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

SPLIT_SHARE: Final = 1.0
"""Of an action's compute, the part that tensor ranks share. A layer's matrix products divide; its
norms and residuals do not, which makes this an optimistic assumption."""

MOST_FORWARDS: Final = 16_384
"""Of a plan in the grid: it is carried out some times, which takes a second."""

_SINGLE: Final = ("Schedule1F1B", "ScheduleGPipe")
_SEVERAL: Final = ("ScheduleInterleaved1F1B", "ScheduleZBVZeroBubble")


@dataclass(kw_only=True, frozen=True, order=True)
class Layout(Result):
    """p pipeline x t tensor x d data ranks; m microbatches per pipeline, v stages per rank."""

    p: int
    t: int
    d: int
    m: int
    v: int
    schedule: str

    def __str__(self) -> str:
        chunks = f" v{self.v}" if self.v > 1 else ""
        name = self.schedule.removeprefix("Schedule")
        return f"p{self.p} t{self.t} d{self.d} m{self.m}{chunks} {name}"


@dataclass(kw_only=True, frozen=True)
class LayoutPrediction(Result):
    """What a step of a layout takes, ns; low_ns to high_ns over the simulations.

    sample_ns: step_ns / (m x d), which compares layouts whatever their batch.
    Shares of the step, of the mean rank: compute_share, tensor_share (communication inside
    actions), bubble_fraction_of_window.
    activations: the most that a rank holds, against the recorded layout (1.0: as much).
    limit: what takes most of the step beside compute. assumed: what the recording does not tell.
    """

    layout: Layout
    step_ns: float
    low_ns: float
    high_ns: float
    sample_ns: float
    compute_share: float
    tensor_share: float
    bubble_fraction_of_window: float
    activations: float
    limit: str
    assumed: tuple[str, ...]


@dataclass(kw_only=True, frozen=True)
class Layouts(Result):
    """Predictions, the least time per sample first.

    recorded: of the layout that was recorded, with its model_error against measured_ns.
    """

    measured_ns: float
    recorded: LayoutPrediction
    model_error: float
    predictions: tuple[LayoutPrediction, ...]


def explore_layouts(
    run: Recording,
    wanted: Sequence[Layout] | None = None,
    steps: Collection[int] | None = None,
    *,
    world: int | None = None,
    split_share: float | None = None,
    layers: int | None = None,
) -> Layouts:
    """Predict each of `wanted`; without it a grid over all p x t x d = `world` (the run's size).

    split_share: the part of compute that tensor ranks share; layers: of the whole model, needed
    where no tensor-parallel communication was recorded.

    Raises:
        UsageError: the run has no pipeline schedule, or work of some stages is missing.
    """
    model = step_model(run, steps)
    costs = action_costs(run, model)
    tensor = tensor_costs(run, costs, layers=layers, steps=model.steps)
    share = SPLIT_SHARE if split_share is None else split_share
    here = recorded_layout(run, model)
    base = _activations(recorded_plan(model), here)
    explorer = _Explorer(model, costs, tensor, here, share, split_share is None, base)
    recorded = explorer.predict(here)
    measured = float(model.step_ns.mean())
    grid = list(grid_of(here, world or here.p * here.t * here.d)) if wanted is None else wanted
    found = [explorer.predict(layout) for layout in grid if layout != here]
    return Layouts(
        measured_ns=measured,
        recorded=recorded,
        model_error=recorded.step_ns / measured - 1,
        predictions=tuple(sorted(found, key=lambda prediction: prediction.sample_ns)),
    )


def usual_layouts(run: Recording, steps: Collection[int]) -> Layouts:
    """`explore_layouts` over the grid of the run's own ranks."""
    return explore_layouts(run, None, steps)


def recorded_layout(run: Recording, model: StepModel) -> Layout:
    """The layout of a run; every mesh dimension beside pp and tp counts as data."""
    sizes: dict[str, int] = {}
    if run.meta.mesh is not None:
        sizes = dict(zip(run.meta.mesh.names, run.meta.mesh.shape, strict=True))
    t = sizes.get("tp", 1)
    d = max(1, run.meta.world_size // (model.p * t))
    return Layout(p=model.p, t=t, d=d, m=model.m, v=model.v, schedule=model.schedule)


def grid_of(here: Layout, world: int) -> Iterator[Layout]:
    """All splits of `world` ranks that can carry out the recorded batch (m x d microbatches), with
    one stage per rank, with two, and in the recorded schedule. Plans of more than
    `MOST_FORWARDS` forwards are left out.

    2 ranks, 4 microbatches → p1 t1 d2 m2, p1 t2 d1 m4, p2 t1 d1 m4 (1F1B, GPipe, and v2)
    """
    batch = here.m * here.d
    for p in _divisors(world):
        for t in _divisors(world // p):
            d = world // (p * t)
            if batch % d:
                continue
            m = batch // d
            names = [(name, 1) for name in (_SINGLE if p > 1 else _SINGLE[:1])]
            names += [(name, 2) for name in _SEVERAL] if p > 1 else []
            names += [(here.schedule, here.v)] if p > 1 else []
            for name, v in dict.fromkeys(names):
                if p * m * v > MOST_FORWARDS:
                    continue
                try:
                    plan(name, p=p, m=m, v=v)
                except UsageError:  # this schedule cannot have these sizes
                    continue
                yield Layout(p=p, t=t, d=d, m=m, v=v, schedule=name)


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


@dataclass(frozen=True)
class _Explorer:
    model: StepModel
    costs: ActionCosts
    tensor: TensorCosts
    here: Layout
    share: float
    is_share_assumed: bool
    activations: float

    def predict(self, layout: Layout) -> LayoutPrediction:
        """The prediction for one layout."""
        made = plan(layout.schedule, p=layout.p, m=layout.m, v=layout.v)
        compute, tensor = self._per_action(layout)
        scaled = {
            key: samples * (compute[key] + tensor[key]) / max(self.costs.whole[key], 1.0)
            for key, samples in self.model.durations.items()
        }
        found = predict_plan(replace(self.model, durations=scaled), made)
        busy = 1 - found.bubble_fraction_of_window
        in_tensor = sum(tensor.values()) / max(sum(compute.values()) + sum(tensor.values()), 1.0)
        parts = {
            "bubble": found.bubble_fraction_of_window,
            "tp communication": busy * in_tensor,
            "compute": busy * (1 - in_tensor),
        }
        return LayoutPrediction(
            layout=layout,
            step_ns=found.step_ns,
            low_ns=found.low_ns,
            high_ns=found.high_ns,
            sample_ns=found.step_ns / (layout.m * layout.d),
            compute_share=parts["compute"],
            tensor_share=parts["tp communication"],
            bubble_fraction_of_window=found.bubble_fraction_of_window,
            activations=_activations(made, layout) / self.activations,
            limit=max(list(parts)[:2], key=lambda part: parts[part]),
            assumed=tuple(dict.fromkeys((*found.assumed, *self._assumed(layout)))),
        )

    def _per_action(
        self, layout: Layout
    ) -> tuple[dict[tuple[int, str], float], dict[tuple[int, str], float]]:
        """Compute and tensor-parallel communication of each recorded (stage, kind), ns."""
        ratio = (1 - self.share) + self.share * self.here.t / layout.t
        compute = {key: spent * ratio for key, spent in self.costs.compute.items()}
        tensor = {key: self.tensor.count[key] * self.tensor.each_ns(layout.t) for key in compute}
        return compute, tensor

    def _assumed(self, layout: Layout) -> Iterator[str]:
        if layout.t != self.here.t:
            if self.is_share_assumed:
                yield f"tensor ranks share {100 * self.share:.0f} % of the compute"
            yield from self.tensor.assumed(layout.t)
        if layout.d != self.here.d:
            yield "the reduction of gradients takes as long as recorded"


def _activations(plan: Plan, layout: Layout) -> float:
    """The most that a rank holds, in activations of the whole model for one microbatch."""
    most = max(in_flight(actions) for actions in plan.actions)
    return most / (layout.p * layout.v * layout.t)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's coefficient of two lists of equal length without ties; NaN of fewer than two."""
    if len(first) < 2:
        return float("nan")
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(np.array(ranks, np.float64)).ravel()[1])
