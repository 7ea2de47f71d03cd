"""A model of a training step, made from a recorded run: what actions cost, and what lies between.

A replay of the recorded graph keeps what waits for what; the model carries out any plan. It knows
of each stage how long its actions took, and of the run

* turnaround: from the end of an action to the start of the rank's next one, where that waited for
  no other rank;
* hand-over: from the end of an action to the start of the one on another rank that waited for it
  (host time, message, host time);
* outside: what a rank does per step before its first and after its last action, waits for late
  ranks left out (optimizer, data loading, the reduction of gradients).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from dashboard.analysis.pipeline.actions import Action, pipeline_actions
from dashboard.analysis.pipeline.plans import PlannedAction
from dashboard.analysis.replay.graph import Graph, dependency_graph
from dashboard.analysis.replay.outside_of_plan import Outside, Samples, outside_of_plan
from dashboard.analysis.replay.replay import step_times
from dashboard.analysis.replay.scenarios import Durations
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

_PIPELINE: Final = "comm:pp"
INPUT_SHARE: Final = 0.5
"""Of a full backward, the part for the input; the literature takes both parts to be equally long
(Qi et al., arXiv 2401.10241, section 2). Only where no backward in two parts was recorded."""


@dataclass(kw_only=True, frozen=True)
class StepModel:
    """Times in ns.

    durations: (stage, kind) → those recorded, from all ranks that hold the stage.
    turnaround, hand_over, outside: see above; outside by pipeline rank.
    p, m, v, schedule: of the recorded run. step_ns: its measured step times; steps: those that
        all of it is from.
    input_share: of a backward, the part for the input: as given, else as seen where it was done in
        two parts, else assumed: is_share_assumed.
    """

    durations: Mapping[tuple[int, str], Samples]
    turnaround: Samples
    hand_over: Samples
    outside: tuple[Outside, ...]
    stages: int
    p: int
    m: int
    v: int
    schedule: str
    step_ns: Samples
    steps: tuple[int, ...]
    input_share: float
    is_share_assumed: bool


def step_model(
    run: Recording,
    steps: Collection[int] | None = None,
    *,
    input_share: float | None = None,
    graph: Graph | None = None,
) -> StepModel:
    """The model of a run's pipeline; of several pipelines, what they have in common.

    graph: the dependency graph of the replayed steps, if it is known.

    Raises:
        UsageError: the run has no pipeline schedule, or no complete step of all its stages.
    """
    recorded = run.meta.schedule
    if recorded is None:
        raise UsageError(
            f"{run.path}: no pipeline schedule was recorded, so there is no plan to vary; one of "
            "torch.distributed.pipelining is recorded by itself"
        )
    # All of it is from the same steps, so that what it predicts compares with what was measured.
    graph = run.answer(dependency_graph, steps) if graph is None else graph
    measured = step_times(graph, graph.time)
    by_step = pipeline_actions(run, measured.steps)
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for actions in by_step.values():
        for action in actions:
            found[action.stage, action.kind].append(action.duration)
    if {stage for stage, _ in found} != set(range(recorded.stages)):
        raise UsageError(f"{run.path}: work of some stages is missing; `rankscope check` says why")
    turnaround, hand_over = _gaps(by_step.values())
    seen = _seen_share(found)
    return StepModel(
        durations={key: np.array(values) for key, values in found.items()},
        turnaround=turnaround,
        hand_over=hand_over,
        outside=outside_of_plan(run, by_step, graph),
        stages=recorded.stages,
        p=recorded.pipeline_size,
        m=recorded.microbatches,
        v=recorded.virtual_stages,
        schedule=recorded.name,
        step_ns=measured.lengths.astype(np.float64),
        steps=tuple(by_step),
        input_share=next(share for share in (input_share, seen, INPUT_SHARE) if share is not None),
        is_share_assumed=input_share is None and seen is None,
    )


def changed_model(model: StepModel, graph: Graph, changed: Durations) -> StepModel:
    """The model with actions of each stage and kind as much longer, on average, as their pieces
    are in `changed`, and hand-overs as much shorter as the pipeline's transfers are.

    A stage whose forwards take 10 in pieces of 4 and 6, changed to 2 and 3 → durations × 0.5.
    """
    stage = pc.fill_null(graph.pieces["stage"], -1).to_numpy()
    kind = np.array(graph.pieces["kind"].to_pylist(), dtype=object)
    before = graph.pieces["duration"].to_numpy()
    durations = {}
    for (number, name), known in model.durations.items():
        mine = (stage == number) & (kind == name)
        whole = before[mine].sum()
        durations[number, name] = known * (changed.pieces[mine].sum() / whole if whole else 1.0)
    messages = pc.equal(graph.transfers["category"], _PIPELINE).to_numpy()
    saved = graph.transfers["duration"].to_numpy()[messages] - changed.transfers[messages]
    shorter = float(saved.mean()) if len(saved) else 0.0
    return replace(model, durations=durations, hand_over=np.maximum(model.hand_over - shorter, 0.0))


def _seen_share(found: Mapping[tuple[int, str], Sequence[float]]) -> float | None:
    """The input's part of all backwards in two parts, the first stage's left out; None without."""
    totals = {
        kind: sum(sum(spent) for (stage, k), spent in found.items() if k == kind and stage)
        for kind in HALVES
    }
    both = sum(totals.values())
    return totals["backward_input"] / both if both else None


def _gaps(steps: Iterable[Sequence[Action]]) -> tuple[Samples, Samples]:
    """Turnarounds and hand-overs; one of 0 where nothing tells."""
    turnarounds: list[float] = []
    hand_overs: list[float] = []
    for actions in steps:
        ends = {(direction(a), a.stage, a.microbatch): a for a in actions if a.kind not in OWN}
        last: dict[int, Action] = {}
        for action in actions:
            before = last.get(action.rank)
            last[action.rank] = action
            needed = ends.get(need_of(action))
            others = needed is not None and needed.rank != action.rank
            if others and needed is not None and (before is None or needed.end > before.end):
                hand_overs.append(action.start - needed.end)
            elif before is not None:
                turnarounds.append(action.start - before.end)
    return np.array(turnarounds or [0.0]), np.array(hand_overs or [0.0])


HALVES: Final = ("backward_input", "backward_weight")
"""The two parts of a backward."""
OWN: Final = ("backward_weight",)
"""Actions that no other stage waits for."""


def direction(action: Action | PlannedAction) -> str:
    """F or B, whichever part of it."""
    return "F" if action.kind == "forward" else "B"


def need_of(action: Action | PlannedAction) -> tuple[str, int, int]:
    """The action of another stage that this one continues."""
    if action.kind == "forward":
        return "F", action.stage - 1, action.microbatch
    if action.kind == "backward_weight":
        return "W", action.stage, action.microbatch  # needs no other stage
    return "B", action.stage + 1, action.microbatch
