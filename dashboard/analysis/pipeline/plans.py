"""What a schedule has each pipeline rank do, in order, for any p, m and v.

The orders are those that torch.distributed.pipelining (torch 2.13) carries out; where they come
from is said beside each. An order is written as a sequence of (letter, stage): which microbatch
each is, follows from counting. Letters: F forward, B full backward, I backward for the input,
W backward for the weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from dashboard.analysis.pipeline.theory import (
    BREADTH_FIRST,
    DUAL_PIPE,
    GPIPE,
    MEGATRON,
    ZERO_BUBBLE,
)
from tracer.errors import UsageError
from tracer.run_files import SchedulePlan

MOST_ACTIONS: Final = 1_000_000
"""Forwards of a plan: of 1,024 ranks with 64 microbatches and 4 stages each there are 262,144."""

KIND_OF: Final = {"F": "forward", "B": "backward", "I": "backward_input", "W": "backward_weight"}

Order: TypeAlias = Iterator[tuple[str, int]]


@dataclass(kw_only=True, slots=True, frozen=True)
class PlannedAction:
    """One piece of work: `kind` as in the trace, global index of the stage, microbatch."""

    kind: str
    stage: int
    microbatch: int


@dataclass(kw_only=True, frozen=True)
class Plan:
    """What each of p pipeline ranks does: `actions[rank]`, in order.

    Rank `rank_of_stage[s]` holds stage s; every rank holds v stages.
    """

    schedule: str
    p: int
    m: int
    v: int
    actions: tuple[tuple[PlannedAction, ...], ...]
    rank_of_stage: tuple[int, ...]

    @property
    def splits_backward(self) -> bool:
        """Whether some backward is done in two parts."""
        return any(action.kind == KIND_OF["W"] for rank in self.actions for action in rank)


@dataclass(kw_only=True, frozen=True)
class Schedule:
    """How to make the plans of a schedule: its order per rank, and what it demands.

    order: p, m, v, rank → the rank's sequence. virtual: how many stages a rank may hold, None: any.
    is_v_shaped: every other round of stages runs back through the ranks. least_m: by p, the least
    number of microbatches. in_rounds: they must fill all rounds. last_first: the last microbatch is
    the first to go back.
    """

    order: Callable[[int, int, int, int], Order]
    source: str
    virtual: int | None = 1
    is_v_shaped: bool = False
    least_m: Callable[[int], int] = lambda p: 1
    in_rounds: bool = False
    last_first: bool = False


def plan(schedule: str, *, p: int, m: int, v: int = 1) -> Plan:
    """The plan of `schedule` (a key of `SCHEDULES`) for p ranks, m microbatches, v stages a rank.

    Raises:
        UsageError: there is no such schedule, or it cannot have these sizes.
    """
    made = SCHEDULES.get(schedule)
    if made is None:
        raise UsageError(f"no schedule {schedule!r}; there are: {', '.join(SCHEDULES)}")
    _check(schedule, made, p, m, v)
    actions = tuple(tuple(_counted(made, made.order(p, m, v, rank), m)) for rank in range(p))
    ranks = range(p)
    looped = [
        rank for chunk in range(v) for rank in (ranks[::-1] if _turns(made, chunk) else ranks)
    ]
    return Plan(schedule=schedule, p=p, m=m, v=v, actions=actions, rank_of_stage=tuple(looped))


def plan_of(schedule: SchedulePlan) -> Plan | None:
    """The plan of a recorded schedule; None for one that we can make no plans of."""
    try:
        return plan(
            schedule.name,
            p=schedule.pipeline_size,
            m=schedule.microbatches,
            v=schedule.virtual_stages,
        )
    except UsageError:
        return None


def in_flight(actions: Iterable[PlannedAction]) -> int:
    """The most microbatches whose activations a rank holds at once, counted once per stage.

    A forward takes one up; a full backward, or the part for the weights, lets it go.

    F0 F1 B0 F2 B1 B2 → 2
    """
    held, most = 0, 0
    for action in actions:
        if action.kind == KIND_OF["F"]:
            held += 1
        elif action.kind != KIND_OF["I"]:
            held -= 1
        most = max(most, held)
    return most


def _turns(made: Schedule, chunk: int) -> bool:
    return made.is_v_shaped and chunk % 2 == 1


def _check(name: str, made: Schedule, p: int, m: int, v: int) -> None:
    if min(p, m, v) < 1:
        raise UsageError(f"{name}: p={p}, m={m} and v={v} must be at least 1")
    if p * m * v > MOST_ACTIONS:
        raise UsageError(f"{name}: p={p}, m={m}, v={v} make more than {MOST_ACTIONS:,} forwards")
    if made.virtual is not None and v != made.virtual:
        raise UsageError(f"{name} has {made.virtual} stages per rank, not {v}")
    if m < made.least_m(p):
        raise UsageError(
            f"{name} with p={p} needs at least {made.least_m(p)} microbatches, not {m}"
        )
    if made.in_rounds and m % _rounds(p, m):
        raise UsageError(
            f"{name} with p={p} goes in {_rounds(p, m)} rounds, of which m={m} is no multiple"
        )


def _counted(made: Schedule, order: Order, m: int) -> Iterator[PlannedAction]:
    """The sequence with microbatches: the n-th F of a stage is microbatch n, and so on.

    A full backward counts as both parts. Schedules that warm up with more microbatches than
    there are leave out those that do not exist.
    """
    seen: Counter[tuple[str, int]] = Counter()
    for letter, stage in order:
        number = seen["I" if letter == "B" else letter, stage]
        for part in "IW" if letter == "B" else letter:
            seen[part, stage] += 1
        if number < m:
            microbatch = m - 1 - number if made.last_first and letter != "F" else number
            yield PlannedAction(kind=KIND_OF[letter], stage=stage, microbatch=microbatch)


def _gpipe(p: int, m: int, v: int, rank: int) -> Order:
    """All forwards, then all backwards."""
    for letter in "FB":
        yield from [(letter, rank)] * m


def _one_forward_one_backward(p: int, m: int, v: int, rank: int) -> Order:
    """As many forwards ahead as there are ranks behind, itself included; then in turn."""
    ahead = min(m, p - rank)
    yield from [("F", rank)] * ahead
    for done in range(m):
        yield "B", rank
        if ahead + done < m:
            yield "F", rank


def _breadth_first(p: int, m: int, v: int, rank: int) -> Order:
    """All microbatches through one stage after the other, and back, the last one first."""
    for chunk in range(v):
        yield from [("F", chunk * p + rank)] * m
    for chunk in reversed(range(v)):
        yield from [("B", chunk * p + rank)] * m


def _rounds(p: int, m: int) -> int:
    return max(1, m // p)


def _interleaved(p: int, m: int, v: int, rank: int) -> Order:
    """1F1B over the chunks of a rank, which take a round of microbatches in turn."""
    per_round = m // _rounds(p, m)
    ahead = min((v - 1) * per_round + 2 * (p - 1 - rank), m * v)
    return _in_rounds(p, m, v, rank, ahead, weights_after=None)


def _interleaved_zero_bubble(p: int, m: int, v: int, rank: int) -> Order:
    """The same with half the warm-up; weights follow `rank` backwards later, to fill the end."""
    per_round = m // _rounds(p, m)
    ahead = min((v - 1) * per_round + (p - 1 - rank), m * v)
    return _in_rounds(p, m, v, rank, ahead, weights_after=rank)


def _in_rounds(
    p: int, m: int, v: int, rank: int, ahead: int, *, weights_after: int | None
) -> Order:
    per_round = m // _rounds(p, m)

    def forward(number: int) -> tuple[str, int]:
        return "F", (number // per_round) % v * p + rank

    def stage_of_backward(number: int) -> int:
        return (v - 1 - (number // per_round) % v) * p + rank

    for number in range(ahead):
        yield forward(number)
    for done in range(m * v):
        if ahead + done < m * v:
            yield forward(ahead + done)
        yield "B" if weights_after is None else "I", stage_of_backward(done)
        if weights_after is not None and done >= weights_after:
            yield "W", stage_of_backward(done - weights_after)
    if weights_after is not None:
        for number in range(max(0, m * v - weights_after), m * v):
            yield "W", stage_of_backward(number)


def _zero_bubble_v(p: int, m: int, v: int, rank: int) -> Order:
    """Each rank holds a stage on the way down and one on the way up of a V."""
    down, up = rank, 2 * p - 1 - rank
    count = max(2 * p - 1, m)
    yield from [("F", down)] * (2 * (p - rank) - 1)
    yield from [("F", up), ("F", down)] * rank
    yield from [("F", up), ("I", up), ("W", up)] * (p - rank)
    forwards = 2 * (p - rank) - 1 + rank
    for number in range(p, count):
        if forwards < count:
            yield "F", down
            forwards += 1
        yield from [("I", down), ("W", down)]
        if number < count:
            yield from [("F", up), ("I", up), ("W", up)]
    yield from [("I", down), ("I", up)] * rank
    yield from [("I", down), ("W", down)] * (p - rank)
    yield from [("W", up)] * rank
    yield from [("W", down)] * rank


def _dual_pipe_v(p: int, m: int, v: int, rank: int) -> Order:
    """The V with a forward beside each backward of the main part. They are written one after the
    other here: what overlaps them is not the schedule's business.
    """
    down, up = rank, 2 * p - 1 - rank
    after = p - rank - 1
    yield from [("F", down)] * (2 * after)
    yield from [("F", down), ("F", up)] * (rank + 1)
    yield from [("I", up), ("W", up), ("F", up)] * after
    yield from [("F", down), ("B", up), ("F", up), ("B", down)] * (m - 2 * p + rank + 1)
    yield from [("B", up), ("F", up), ("B", down)] * after
    # From the middle of the rest on, weights wait for the end.
    rest = [stage for _ in range(rank + 1) for stage in (up, down)]
    first_split = 2 * ((rank + 1) // 2) + (rank % 2 == 0)
    owed: list[int] = []
    for number, stage in enumerate(rest):
        if number < first_split:
            yield "B", stage
        else:
            yield "I", stage
            owed.append(stage)
    splits = len(rest) > first_split
    for _ in range(after):
        if owed:
            yield "W", owed.pop(0)
        yield "I" if splits else "B", down
        if splits:
            owed.append(down)
    yield from [("W", stage) for stage in owed]


SCHEDULES: Final[dict[str, Schedule]] = {
    "ScheduleGPipe": Schedule(order=_gpipe, source=GPIPE),
    "Schedule1F1B": Schedule(order=_one_forward_one_backward, source=MEGATRON),
    "ScheduleInterleaved1F1B": Schedule(
        order=_interleaved, source=MEGATRON, virtual=None, in_rounds=True
    ),
    "ScheduleLoopedBFS": Schedule(
        order=_breadth_first, source=BREADTH_FIRST, virtual=None, last_first=True
    ),
    "ScheduleInterleavedZeroBubble": Schedule(
        order=_interleaved_zero_bubble, source=ZERO_BUBBLE, virtual=None, in_rounds=True
    ),
    "ScheduleZBVZeroBubble": Schedule(
        order=_zero_bubble_v, source=ZERO_BUBBLE, virtual=2, is_v_shaped=True
    ),
    "ScheduleDualPipeV": Schedule(
        order=_dual_pipe_v,
        source=DUAL_PIPE,
        virtual=2,
        is_v_shaped=True,
        least_m=lambda p: 2 * p,
    ),
}
"""Every schedule that torch.distributed.pipelining 2.13 has, by the name of its class. For 1F1B
torch wants at least p microbatches; the order, which other frameworks have too, does not.
"""
