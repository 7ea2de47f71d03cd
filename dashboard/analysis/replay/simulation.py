"""Carry out a plan with the durations of a step model, and see how long steps take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from dashboard.analysis.pipeline.actions import Action
from dashboard.analysis.pipeline.plans import Plan, PlannedAction
from dashboard.analysis.replay.outside_of_plan import Samples
from dashboard.analysis.replay.step_model import HALVES, OWN, StepModel, direction, need_of
from tracer.errors import UsageError


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
    gives = (direction(action), action.stage, action.microbatch)
    need = need_of(action)
    if action.kind in OWN:
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


def place_of(rank: int, p: int, recorded: int) -> int:
    """The recorded pipeline rank, of so many, that lies as far along as `rank` of p.

    2 of 3 → 1 of 2
    """
    return round(rank * (recorded - 1) / (p - 1)) if p > 1 else 0


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
        if action.kind not in HALVES:
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
        return self._one_of(known[place_of(rank, self._p, len(known))].whole)

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
        halves = [known[stage, half] for half in HALVES if (stage, half) in known]
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
