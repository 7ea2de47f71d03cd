"""From one recorded run, the step time of other splits over pipeline, tensor and data ranks.

Of an action, compute shrinks with the tensor ranks that share it, and what else lies in it is the
tensor-parallel communication, of which each operation costs what layout_costs.py says. The plan is
then carried out by the step model (step_model.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from dashboard.analysis.layouts.costs import action_costs, tensor_costs
from dashboard.analysis.layouts.data_costs import data_costs
from dashboard.analysis.layouts.layout import Layout, grid_of, recorded_layout
from dashboard.analysis.layouts.memory import held_share, memory_costs
from dashboard.analysis.layouts.prediction import LayoutCosts, LayoutPrediction, predict_layout
from dashboard.analysis.replay.other_plans import recorded_plan
from dashboard.analysis.replay.step_model import step_model
from dashboard.analysis.results import Result
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

SPLIT_SHARE: Final = 1.0
"""Of an action's compute, the part that tensor ranks share. A layer's matrix products divide; its
norms and residuals do not, which makes this an optimistic assumption."""


Watch = Callable[[int], AbstractContextManager[Callable[[int], object]]]
"""Of so many predictions: a block in which it is told of each that is made."""


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
    gradients: float | None = None,
    watch: Watch = lambda total: nullcontext(lambda count: None),
) -> Layouts:
    """Predict each of `wanted`; without it a grid over all p x t x d = `world` (the run's size).

    split_share: the part of compute that tensor ranks share; layers: of the whole model, needed
    where no tensor-parallel communication was recorded; gradients: bytes of the whole model's,
    needed where no reduction of them was recorded. watch: shows how many of so many are predicted.

    Raises:
        UsageError: the run has no pipeline schedule, or work of some stages is missing.
    """
    if run.meta.schedule is None:
        raise UsageError(
            f"{run.path}: recorded without a pipeline, it does not tell what the layers of a stage "
            "take nor what stages would wait for each other, so other layouts would be a guess; "
            "record ten steps of a small pipeline (torch.distributed.pipelining, 2 stages) and ask "
            "that run, with --world for more ranks"
        )
    model = step_model(run, steps)
    here = recorded_layout(run, model)
    actions = action_costs(run, model)
    costs = LayoutCosts(
        model=model,
        actions=actions,
        tensor=tensor_costs(run, actions, layers=layers, steps=model.steps),
        data=data_costs(run, model, d=here.d, gradients=gradients),
        memory=memory_costs(run, here, model.steps),
        here=here,
        share=SPLIT_SHARE if split_share is None else split_share,
        is_share_assumed=split_share is None,
        activations=held_share(here, recorded_plan(model)),
    )
    recorded = predict_layout(costs, here)
    measured = float(model.step_ns.mean())
    grid = list(grid_of(here, world or here.p * here.t * here.d)) if wanted is None else wanted
    others = [layout for layout in grid if layout != here]
    found: list[LayoutPrediction] = []
    with watch(len(others)) as advance:
        for layout in others:
            found.append(predict_layout(costs, layout))
            advance(1)
    return Layouts(
        measured_ns=measured,
        recorded=recorded,
        model_error=recorded.step_ns / measured - 1,
        predictions=tuple(sorted(found, key=lambda prediction: prediction.sample_ns)),
    )


def usual_layouts(run: Recording, steps: Collection[int]) -> Layouts:
    """`explore_layouts` over the grid of the run's own ranks."""
    return explore_layouts(run, None, steps)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's coefficient of two lists of equal length; NaN of fewer than two."""
    if len(first) < 2:
        return float("nan")
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Places in order; equal values share the mean of theirs. 5, 7, 5 → 1, 2.5, 1"""
    found = np.asarray(values, np.float64)
    ordered = np.sort(found)
    ranks: npt.NDArray[np.float64]
    ranks = (np.searchsorted(ordered, found) + np.searchsorted(ordered, found, "right")) / 2
    return ranks
