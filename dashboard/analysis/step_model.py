"""A model of a training step, made from a recorded run: what actions cost, and what lies between.

A replay of the recorded graph keeps what waits for what; the model carries out any plan. It knows
of each stage how long its actions took, and of the run

* turnaround: from the end of an action to the start of the rank's next one, where that waited for
  no other rank;
* hand-over: from the end of an action to the start of the one on another rank that waited for it
  (host time, message, host time);
* outside: what a rank does by itself per step before its first and after its last action
  (optimizer, data loading, the reduction of gradients, as measured).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from dashboard.analysis.actions import Action, pipeline_actions, pipelines
from dashboard.analysis.graph import dependency_graph
from dashboard.analysis.plans import Plan, PlannedAction
from dashboard.analysis.replay import step_times
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

Samples: TypeAlias = npt.NDArray[np.float64]
"""Durations of one kind of action, ns, as recorded."""

INPUT_SHARE: Final = 0.5
"""Of a full backward, the part for the input; the literature takes both parts to be equally long
(Qi et al., arXiv 2401.10241, section 2). Only where no backward in two parts was recorded."""


@dataclass(kw_only=True, frozen=True)
class StepModel:
    """Times in ns.

    durations: (stage, kind) → those recorded, from all ranks that hold the stage.
    turnaround, hand_over, outside: see above; outside by pipeline rank.
    p, m, v, schedule: of the recorded run. step_ns: its measured step times.
    input_share: of a backward, the part for the input: as given, else as seen where it was done in
        two parts, else assumed: is_share_assumed.
    """

    durations: Mapping[tuple[int, str], Samples]
    turnaround: Samples
    hand_over: Samples
    outside: tuple[Samples, ...]
    stages: int
    p: int
    m: int
    v: int
    schedule: str
    step_ns: Samples
    input_share: float
    is_share_assumed: bool


def step_model(
    run: Recording,
    steps: Collection[int] | None = None,
    *,
    input_share: float | None = None,
) -> StepModel:
    """The model of a run's pipeline; of several pipelines, what they have in common.

    Raises:
        UsageError: the run has no pipeline schedule, or no complete step of all its stages.
    """
    recorded = run.meta.schedule
    if recorded is None:
        raise UsageError(
            f"{run.path}: no pipeline schedule was recorded, so there is no plan to vary"
        )
    by_step = _without_first(pipeline_actions(run, steps))
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
        outside=_outside(run, by_step),
        stages=recorded.stages,
        p=recorded.pipeline_size,
        m=recorded.microbatches,
        v=recorded.virtual_stages,
        schedule=recorded.name,
        step_ns=_step_lengths(run, steps),
        input_share=next(share for share in (input_share, seen, INPUT_SHARE) if share is not None),
        is_share_assumed=input_share is None and seen is None,
    )


def _seen_share(found: Mapping[tuple[int, str], Sequence[float]]) -> float | None:
    """The input's part of all backwards in two parts, the first stage's left out; None without."""
    totals = {
        kind: sum(sum(spent) for (stage, k), spent in found.items() if k == kind and stage)
        for kind in _HALVES
    }
    both = sum(totals.values())
    return totals["backward_input"] / both if both else None


def _without_first(by_step: Mapping[int, list[Action]]) -> dict[int, list[Action]]:
    """The steps whose times are measured: of several, all but the first (replay.step_times)."""
    return dict(sorted(by_step.items())[1:]) if len(by_step) > 1 else dict(by_step)


def _gaps(steps: Iterable[Sequence[Action]]) -> tuple[Samples, Samples]:
    """Turnarounds and hand-overs; one of 0 where nothing tells."""
    turnarounds: list[float] = []
    hand_overs: list[float] = []
    for actions in steps:
        ends = {(_direction(a), a.stage, a.microbatch): a for a in actions if a.kind not in _OWN}
        last: dict[int, Action] = {}
        for action in actions:
            before = last.get(action.rank)
            last[action.rank] = action
            needed = ends.get(_need(action))
            others = needed is not None and needed.rank != action.rank
            if others and needed is not None and (before is None or needed.end > before.end):
                hand_overs.append(action.start - needed.end)
            elif before is not None:
                turnarounds.append(action.start - before.end)
    return np.array(turnarounds or [0.0]), np.array(hand_overs or [0.0])


_HALVES: Final = ("backward_input", "backward_weight")
_OWN: Final = ("backward_weight",)
"""Actions that no other stage waits for."""


def _direction(action: Action | PlannedAction) -> str:
    return "F" if action.kind == "forward" else "B"


def _need(action: Action | PlannedAction) -> tuple[str, int, int]:
    """The action of another stage that this one continues."""
    if action.kind == "forward":
        return "F", action.stage - 1, action.microbatch
    if action.kind == "backward_weight":
        return "W", action.stage, action.microbatch  # needs no other stage
    return "B", action.stage + 1, action.microbatch


def _outside(run: Recording, by_step: Mapping[int, Sequence[Action]]) -> tuple[Samples, ...]:
    """By pipeline rank, own work between its actions of one step and those of the next.

    It goes from the last action of one step to the first of the next, waits for others left out.
    """
    graph = dependency_graph(run, list(by_step))
    pieces = graph.pieces.select(["rank", "start", "duration"])
    rank_of, start, duration = (column.to_numpy() for column in pieces.columns)
    positions: dict[int, list[float]] = defaultdict(list)
    for ranks in pipelines(run).values():
        for position, rank in enumerate(ranks):
            found = positions[position]
            mine = rank_of == rank
            begins, lengths = start[mine], duration[mine]
            spans = [
                (min(a.start for a in own), max(a.end for a in own))
                for actions in by_step.values()
                if (own := [a for a in actions if a.rank == rank])
            ]
            for (_, end), (begin, _) in pairwise(spans):
                between = (begins >= end) & (begins < begin)
                found.append(float(lengths[between].sum()))
    return tuple(np.array(found or [0.0]) for _, found in sorted(positions.items()))


def _step_lengths(run: Recording, steps: Collection[int] | None) -> Samples:
    graph = run.answer(dependency_graph, steps)
    return step_times(graph, graph.time).lengths.astype(np.float64)


@dataclass(kw_only=True, frozen=True)
class Simulation:
    """Steps carried out one after the other: their times, and the actions of the last one.

    step_ns: from the end of a step on the last rank to that of the next. last: times in ns.
    """

    step_ns: Samples
    last: tuple[Action, ...]

    @property
    def bubble_fraction_of_window(self) -> float:
        """Of the last step: Σ idle / Σ window over the ranks; 0 without actions."""
        ranks = len({action.rank for action in self.last})
        begin = min((action.start for action in self.last), default=0)
        window = max((action.end for action in self.last), default=0) - begin
        busy = sum(action.duration for action in self.last)
        return 1 - busy / (ranks * window) if window else 0.0


def simulate(
    model: StepModel, plan: Plan, *, scale: float = 1.0, steps: int, seed: int
) -> Simulation:
    """Carry out so many steps of `plan`, with durations drawn from the recorded ones.

    scale: how long each action takes in proportion (of microbatches cut finer, say).
    """
    costs = _Costs(model, plan, np.random.default_rng(seed), scale)
    tasks = [
        [_task(plan, rank, action) for action in found] for rank, found in enumerate(plan.actions)
    ]
    free = [0.0] * plan.p
    ends: list[float] = []
    spans: list[_Span] = []
    for _ in range(steps + 1):
        spans = _carry_out(tasks, costs, free)
        done = {rank: end for rank, _, _, end in spans}
        free = [done.get(rank, 0.0) + costs.outside(rank) for rank in range(plan.p)]
        ends.append(max(free))
    actions = tuple(
        Action(
            rank=rank,
            step=steps,
            kind=task.action.kind,
            stage=task.action.stage,
            microbatch=task.action.microbatch,
            start=round(start),
            duration=round(end) - round(start),
        )
        for rank, task, start, end in spans
    )
    return Simulation(step_ns=np.diff(ends), last=actions)


_Key: TypeAlias = tuple[str, int, int]


@dataclass(slots=True, frozen=True)
class _Task:
    """An action, what it needs (None: nothing), whether another rank does that, and what it gives
    others (None: nothing).
    """

    action: PlannedAction
    need: _Key | None
    is_elsewhere: bool
    gives: _Key | None


_Span: TypeAlias = tuple[int, _Task, float, float]
"""rank, task, start, end"""


def _task(plan: Plan, rank: int, action: PlannedAction) -> _Task:
    gives = (_direction(action), action.stage, action.microbatch)
    need = _need(action)
    if action.kind in _OWN:
        return _Task(action, None, False, None)
    if not 0 <= need[1] < len(plan.rank_of_stage):
        return _Task(action, None, False, gives)
    return _Task(action, need, plan.rank_of_stage[need[1]] != rank, gives)


def _carry_out(
    tasks: Sequence[Sequence[_Task]], costs: _Costs, free: Sequence[float]
) -> list[_Span]:
    """One step, each rank's tasks in its order, if the ranks are free from `free` on."""
    done: dict[_Key, float] = {}
    now = list(free)
    at = [0] * len(tasks)
    spans: list[_Span] = []
    left = sum(map(len, tasks))
    while len(spans) < left:
        before = len(spans)
        for rank, mine in enumerate(tasks):
            while at[rank] < len(mine):
                task = mine[at[rank]]
                if task.need is not None and task.need not in done:
                    break
                start = now[rank] + (costs.turnaround() if at[rank] else 0.0)
                if task.need is not None:
                    ready = done[task.need] + (costs.hand_over() if task.is_elsewhere else 0.0)
                    start = max(start, ready)
                now[rank] = end = start + costs.of(task.action)
                if task.gives is not None:
                    done[task.gives] = end
                at[rank] += 1
                spans.append((rank, task, start, end))
        if len(spans) == before:
            raise UsageError("the plan waits for itself")
    return spans


_AT_ONCE: Final = 256
"""Durations drawn at once: one by one takes most of the time of a simulation."""


class _Costs:
    """Durations of planned actions, drawn from those recorded.

    With another number of stages, the model's layers are taken to lie evenly in the recorded
    stages, and each new stage to take what its part of them took.
    """

    def __init__(
        self, model: StepModel, plan: Plan, random: np.random.Generator, scale: float
    ) -> None:
        self._model = model
        self._random = random
        self._scale = scale
        self._p = plan.p
        self._drawn: dict[int, list[float]] = {}
        self._parts = parts_of_stages(model.stages, plan.p * plan.v)

    def of(self, action: PlannedAction) -> float:
        """The duration of one action, ns."""
        parts = self._parts[action.stage]
        if action.kind not in _HALVES:
            return self._scale * sum(
                share * self._draw(stage, action.kind) for stage, share in parts
            )
        known = self._model.durations.get((action.stage, action.kind))
        if known is not None and len(self._parts) == self._model.stages:
            return self._scale * self._one_of(known)
        # The first stage has no input that wants a gradient: torch does all of it with the weights.
        half = self._model.input_share if action.stage else 0.0
        half = half if action.kind == "backward_input" else 1 - half
        return (
            self._scale
            * half
            * sum(share * self._draw(stage, "backward") for stage, share in parts)
        )

    def turnaround(self) -> float:
        """From the end of an action to the start of the rank's next one, ns."""
        return self._one_of(self._model.turnaround)

    def hand_over(self) -> float:
        """From the end of an action to the start of the one that waited for it elsewhere, ns."""
        return self._one_of(self._model.hand_over)

    def outside(self, rank: int) -> float:
        """Of the recorded rank that lies as far along the pipeline, ns."""
        known = self._model.outside
        place = round(rank * (len(known) - 1) / (self._p - 1)) if self._p > 1 else 0
        return self._one_of(known[place])

    def _one_of(self, samples: Samples) -> float:
        drawn = self._drawn.get(id(samples))
        if not drawn:
            chosen = self._random.integers(len(samples), size=_AT_ONCE)
            drawn = self._drawn[id(samples)] = samples[chosen].tolist()
        return drawn.pop()

    def _draw(self, stage: int, kind: str) -> float:
        """Of a recorded stage; a full backward may have been recorded in two parts."""
        known = self._model.durations
        if (stage, kind) in known:
            return self._one_of(known[stage, kind])
        halves = [known[stage, half] for half in _HALVES if (stage, half) in known]
        return sum(self._one_of(samples) for samples in halves)


def parts_of_stages(recorded: int, wanted: int) -> list[list[tuple[int, float]]]:
    """For each wanted stage, which recorded stages it has parts of, and which share of each.

    2 recorded, 4 wanted → half of 0, half of 0, half of 1, half of 1
    """
    found = []
    for stage in range(wanted):
        low, high = stage * recorded / wanted, (stage + 1) * recorded / wanted
        parts = [
            (old, min(high, old + 1) - max(low, old))
            for old in range(recorded)
            if min(high, old + 1) - max(low, old) > 1e-9
        ]
        found.append(parts)
    return found
