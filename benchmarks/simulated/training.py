"""Carry out a plan on p × t × d ranks, all replicas at once: when actions and collectives were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.simulated.statistics import Samples, Statistics, draw
from dashboard.analysis.pipeline.plans import Plan, PlannedAction
from dashboard.analysis.replay.step_model import OWN, direction, need_of
from tracer.errors import UsageError

Floats = npt.NDArray[np.float64]


@dataclass(kw_only=True, slots=True, frozen=True)
class Straggler:
    """`rank` takes `slow` times as long for its work in steps `first` to before `end`."""

    rank: int
    first: int
    end: int
    slow: float


@dataclass(kw_only=True, frozen=True)
class Shape:
    """p pipeline × t tensor × d data ranks; rank = (pipeline · d + data) · t + tensor."""

    plan: Plan
    t: int
    d: int

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.plan.p * self.t * self.d

    def rank(self, pipeline: int, tensor: int, data: int) -> int:
        """The global rank at these coordinates."""
        return (pipeline * self.d + data) * self.t + tensor

    def place(self, rank: int) -> tuple[int, int, int]:
        """Pipeline, tensor and data coordinate."""
        return rank // (self.t * self.d), rank % self.t, rank // self.t % self.d


@dataclass(kw_only=True, slots=True, frozen=True)
class Task:
    """An action on the plan's rank `rank`; `need` is the task that it waits for, −1: none.

    elsewhere: whether that one is on another rank. gives_to: the rank of the task that waits for
    this one, −1: none, or on the same rank. collectives: those of tensor ranks inside it.
    """

    rank: int
    action: PlannedAction
    need: int
    elsewhere: bool
    gives_to: int
    collectives: int


@dataclass(kw_only=True, frozen=True)
class Block:
    """Some steps in a row, times in ns; arrays begin with (step, task) and end with (t, d).

    Of each task: `posted`, the end of what its rank did before; `turnaround`, what lay between;
    `start`; `end`; `hand_over`, what its message took. arrived, met (step, task, number, t, d):
    begin and end of the collectives inside. Of each rank (step, p, t, d): `begin` of the step,
    `reduce` and `reduced`, begin and end of the reduction of gradients, `updated`: the end of
    the optimizer. `after` (p, t, d): where the last step ended.
    """

    first_step: int
    posted: Floats
    turnaround: Floats
    start: Floats
    end: Floats
    hand_over: Floats
    arrived: Floats
    met: Floats
    begin: Floats
    reduce: Floats
    reduced: Floats
    updated: Floats
    after: Floats


@dataclass(kw_only=True)
class Training:
    """A training to be carried out; `jitter` is the spread (of the logarithm) of every duration
    beside what the statistics have.
    """

    shape: Shape
    found: Statistics
    stragglers: Sequence[Straggler] = ()
    jitter: float = 0.0
    seed: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks of a step, each after those that it needs."""
        plan = self.shape.plan
        order = list(_in_order(plan))
        number = {
            (direction(a), a.stage, a.microbatch): n for n, (_, a) in enumerate(order) if _gives(a)
        }
        needs = [-1 if a.kind in OWN else number.get(need_of(a), -1) for _, a in order]
        gives_to = [-1] * len(order)
        for task, need in enumerate(needs):
            if need >= 0 and order[need][0] != order[task][0]:
                gives_to[need] = order[task][0]
        within = self.found.collectives if self.shape.t > 1 else {}
        return tuple(
            Task(
                rank=rank,
                action=action,
                need=need,
                elsewhere=need >= 0 and order[need][0] != rank,
                gives_to=to,
                collectives=within.get(action.kind, 0),
            )
            for (rank, action), need, to in zip(order, needs, gives_to, strict=True)
        )

    def blocks(self, steps: int, at_once: int) -> Iterator[Block]:
        """All steps, so many at once: memory does not grow with their number."""
        plan, t, d = self.shape.plan, self.shape.t, self.shape.d
        now: Floats = np.zeros((plan.p, t, d))
        for first in range(0, steps, at_once):
            block = self._block(first, min(at_once, steps - first), now)
            now = block.after
            yield block

    def _block(self, first: int, steps: int, now: Floats) -> Block:
        """The tasks of each step in order, each for all replicas at once."""
        t, d = self.shape.t, self.shape.d
        tasks, p = self.tasks, self.shape.plan.p
        most = max(task.collectives for task in tasks)
        every = (steps, len(tasks), t, d)
        model = self.found.model
        work = self._work(first, steps)
        turnaround = self._drawn(model.turnaround, every)
        hand_over = self._drawn(model.hand_over[model.hand_over > 0], every)
        transfer = self._drawn(self.found.transfer_ns["tp"], (steps, len(tasks), most, 1, d))
        outside = self._outside(steps)
        optimizer = self._drawn(self.found.optimizer_ns, (steps, p, t, d))
        reduction = self._drawn(self.found.reduction_ns, (steps, p, t, 1))
        posted, start, end = np.empty((3, *every))
        arrived, met = np.zeros((2, steps, len(tasks), most, t, d))
        begin, reduce, reduced, updated = np.empty((4, steps, p, t, d))
        for step in range(steps):
            begin[step] = now
            free = list(now + outside[step] / 2)
            is_first = [True] * p
            for number, task in enumerate(tasks):
                before = posted[step, number] = free[task.rank]
                at = before if is_first[task.rank] else before + turnaround[step, number]
                is_first[task.rank] = False
                if task.elsewhere:
                    at = np.maximum(at, end[step, task.need] + hand_over[step, task.need])
                start[step, number] = at
                piece = work[step, number] / (task.collectives + 1)
                for inside in range(task.collectives):
                    here = arrived[step, number, inside] = at + piece
                    at = here.max(axis=0) + transfer[step, number, inside]
                    met[step, number, inside] = at
                free[task.rank] = end[step, number] = at + piece
            reduce[step] = done = np.stack(free) + outside[step] / 8
            if d > 1:
                done = done.max(axis=2, keepdims=True) + reduction[step]
            reduced[step] = done
            updated[step] = done + optimizer[step]
            now = updated[step] + outside[step] * 3 / 8
        return Block(
            first_step=first,
            posted=posted,
            turnaround=turnaround,
            start=start,
            end=end,
            hand_over=hand_over,
            arrived=arrived,
            met=met,
            begin=begin,
            reduce=reduce,
            reduced=reduced,
            updated=updated,
            after=now,
        )

    def _work(self, first: int, steps: int) -> Floats:
        """(step, task, t, d): what each action takes besides its collectives."""
        shape, plan = self.shape, self.shape.plan
        work = np.empty((steps, len(self.tasks), shape.t, shape.d))
        for number, task in enumerate(self.tasks):
            action, size = task.action, (steps, shape.t, shape.d)
            stages = plan.p * plan.v
            drawn = self.found.work_of(self.random, action.stage, stages, action.kind, size)
            work[:, number] = np.maximum(drawn, 1)
        if self.jitter:
            work *= self.random.lognormal(0, self.jitter, work.shape)
        for one in self.stragglers:
            pipeline, tensor, data = shape.place(one.rank)
            mine = [number for number, task in enumerate(self.tasks) if task.rank == pipeline]
            low, high = max(one.first - first, 0), max(one.end - first, 0)
            work[low:high, mine, tensor, data] *= one.slow
        return work

    def _outside(self, steps: int) -> Floats:
        """(step, p, t, d): what a rank does beside its plan, reduction and optimizer left out."""
        shape, known = self.shape, self.found.model.outside
        p = shape.plan.p
        places = [round(rank * (len(known) - 1) / max(p - 1, 1)) for rank in range(p)]
        left = self.found.optimizer_ns.mean()
        samples = [
            np.maximum(known[place].whole - known[place].reduction - left, 0) for place in places
        ]
        size = (steps, shape.t, shape.d)
        return np.stack([draw(self.random, part, size) for part in samples], axis=1)

    def _drawn(self, samples: Samples, size: tuple[int, ...]) -> Floats:
        if not np.prod(size):
            return np.zeros(size)
        drawn = draw(self.random, np.maximum(samples if len(samples) else np.ones(1), 1), size)
        return drawn * self.random.lognormal(0, self.jitter, size) if self.jitter else drawn


def _gives(action: PlannedAction) -> bool:
    return action.kind not in OWN


def _in_order(plan: Plan) -> Iterator[tuple[int, PlannedAction]]:
    """Rank and action, each after the one of another stage that it continues."""
    at = [0] * plan.p
    done: set[tuple[str, int, int]] = set()
    left = sum(map(len, plan.actions))
    while left:
        before = left
        for rank, actions in enumerate(plan.actions):
            while at[rank] < len(actions):
                action = actions[at[rank]]
                need = need_of(action)
                if action.kind not in OWN and 0 <= need[1] < plan.p * plan.v and need not in done:
                    break
                if _gives(action):
                    done.add((direction(action), action.stage, action.microbatch))
                at[rank] += 1
                left -= 1
                yield rank, action
        if left == before:
            raise UsageError(f"{plan.schedule}: the plan waits for itself")
