"""Carry out a plan with the durations of a step model, and see how long steps take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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

    Raises:
        UsageError: actions of the plan wait for each other.
    """
    costs = _Costs(model, plan, np.random.default_rng(seed), scale)
    turns = _turns(plan)
    durations = [costs.of(turn.action) for turn in turns]
    working = {turn.rank for turn in turns}
    free = [0.0] * plan.p
    begins: list[float] = []
    ends: list[float] = []
    reached: list[float] = []
    for _ in range(steps + 1):
        begins, ends, now = _carry_out(turns, durations, costs, free)
        free = [
            (now[rank] if rank in working else 0.0) + costs.outside(rank) for rank in range(plan.p)
        ]
        reached.append(max(free))
    actions = tuple(
        Action(
            rank=turn.rank,
            step=steps,
            kind=turn.action.kind,
            stage=turn.action.stage,
            microbatch=turn.action.microbatch,
            start=round(start),
            duration=round(end) - round(start),
        )
        for turn, start, end in zip(turns, begins, ends, strict=True)
    )
    return Simulation(step_ns=np.diff(reached), last=actions)


@dataclass(slots=True, frozen=True)
class _Turn:
    """An action of a rank; is_first: of that rank's. need: the place among all turns of the one
    that it waits for (None: none), and whether another rank does that.
    """

    rank: int
    action: PlannedAction
    is_first: bool
    need: int | None
    is_elsewhere: bool


@lru_cache(maxsize=1)  # a plan is carried out several times in a row
def _turns(plan: Plan) -> tuple[_Turn, ...]:
    """All actions, each rank's in its order and each after what it needs. How long they take does
    not change that, so it is found once for all steps.
    """
    place_of_done: dict[tuple[str, int, int], int] = {}
    at = [0] * plan.p
    turns: list[_Turn] = []
    left = sum(map(len, plan.actions))
    while len(turns) < left:
        before = len(turns)
        for rank, mine in enumerate(plan.actions):
            while at[rank] < len(mine):
                action = mine[at[rank]]
                needed = _needed(plan, action)
                if needed is not None and needed not in place_of_done:
                    break
                need = None if needed is None else place_of_done[needed]
                is_elsewhere = needed is not None and plan.rank_of_stage[needed[1]] != rank
                if action.kind not in OWN:
                    given = (direction(action), action.stage, action.microbatch)
                    place_of_done[given] = len(turns)
                turns.append(_Turn(rank, action, at[rank] == 0, need, is_elsewhere))
                at[rank] += 1
        if len(turns) == before:
            raise UsageError("the plan waits for itself")
    return tuple(turns)


def _needed(plan: Plan, action: PlannedAction) -> tuple[str, int, int] | None:
    if action.kind in OWN:
        return None
    need = need_of(action)
    return need if 0 <= need[1] < len(plan.rank_of_stage) else None


def _carry_out(
    turns: Sequence[_Turn], durations: Sequence[_Duration], costs: _Costs, free: Sequence[float]
) -> tuple[list[float], list[float], list[float]]:
    """One step, if the ranks are free from `free` on: when each turn begins and ends, and when each
    rank is done.
    """
    turnaround, hand_over = costs.turnaround.draw, costs.hand_over.draw
    now = list(free)
    begins: list[float] = []
    ends: list[float] = []
    for turn, duration in zip(turns, durations, strict=True):
        rank = turn.rank
        start = now[rank] if turn.is_first else now[rank] + turnaround()
        if turn.need is not None:
            ready = ends[turn.need] + (hand_over() if turn.is_elsewhere else 0.0)
            start = max(start, ready)
        now[rank] = end = start + duration()
        begins.append(start)
        ends.append(end)
    return begins, ends, now


def place_of(rank: int, p: int, recorded: int) -> int:
    """The recorded pipeline rank, of so many, that lies as far along as `rank` of p.

    2 of 3 → 1 of 2
    """
    return round(rank * (recorded - 1) / (p - 1)) if p > 1 else 0


_AT_ONCE: Final = 256
"""Durations drawn at once: one by one takes most of the time of a simulation."""

_Duration: TypeAlias = Callable[[], float]
"""Draws one, ns."""


class _Draws:
    """Draws from samples, some ahead."""

    __slots__ = ("_ahead", "_random", "_samples")

    def __init__(self, samples: Samples, random: np.random.Generator) -> None:
        self._samples = samples
        self._random = random
        self._ahead: list[float] = []

    def draw(self) -> float:
        """One of the samples."""
        if not self._ahead:
            chosen = self._random.integers(len(self._samples), size=_AT_ONCE)
            self._ahead = self._samples[chosen].tolist()
        return self._ahead.pop()


class _Costs:
    """Durations of planned actions, drawn from those recorded.

    turnaround: from the end of an action to the start of the rank's next one; hand_over: to the
    start of the one that waited for it elsewhere, ns.

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
        self._draws: dict[int, _Draws] = {}
        self._parts = parts_of_stages(model.stages, plan.p * plan.v)
        self.turnaround = self._draws_of(model.turnaround)
        self.hand_over = self._draws_of(model.hand_over)

    def of(self, action: PlannedAction) -> _Duration:
        """Durations of one action."""
        parts = self._parts[action.stage]
        if action.kind not in HALVES:
            return self._of_parts(self._scale, parts, action.kind)
        known = self._model.durations.get((action.stage, action.kind))
        if known is not None and len(self._parts) == self._model.stages:
            return self._of_parts(self._scale, [(action.stage, 1.0)], action.kind)
        # The first stage has no input that wants a gradient: torch does all of it with the weights.
        half = self._model.input_share if action.stage else 0.0
        half = half if action.kind == "backward_input" else 1 - half
        return self._of_parts(self._scale * half, parts, "backward")

    def outside(self, rank: int) -> float:
        """Of the recorded rank that lies as far along the pipeline, ns."""
        known = self._model.outside
        return self._draws_of(known[place_of(rank, self._p, len(known))].whole).draw()

    def _of_parts(self, scale: float, parts: Sequence[tuple[int, float]], kind: str) -> _Duration:
        """Of shares of recorded stages, together."""
        drawn = [(share, self._of_stage(stage, kind)) for stage, share in parts]
        if len(drawn) == 1:
            ((whole, draw),) = drawn
            return lambda: scale * (whole * draw())
        return lambda: scale * sum(share * draw() for share, draw in drawn)

    def _of_stage(self, stage: int, kind: str) -> _Duration:
        """Of a recorded stage; a full backward may have been recorded in two parts."""
        known = self._model.durations
        if (stage, kind) in known:
            return self._draws_of(known[stage, kind]).draw
        halves = [self._draws_of(known[stage, h]).draw for h in HALVES if (stage, h) in known]
        return lambda: sum(draw() for draw in halves)

    def _draws_of(self, samples: Samples) -> _Draws:
        """The same of the same samples."""
        found = self._draws.get(id(samples))
        if found is None:
            found = self._draws[id(samples)] = _Draws(samples, self._random)
        return found


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
