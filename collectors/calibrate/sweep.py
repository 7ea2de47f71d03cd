"""Time operations over process groups, as nccl-tests does: many in a row, then divide.

Each batch begins with a barrier of all ranks. The time of an operation is that of its batch divided
by the iterations, on the slowest member, and of several batches the median: a disturbed one
changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import torch
import torch.distributed as dist

from collectors.calibrate.plan import P2P, Members, Round

WARM_UP: Final = 3
"""Operations before the first that counts: connections are made, memory is touched."""
BATCHES: Final = 5
MOST_ITERATIONS: Final = 50
"""Per batch; small operations would otherwise be repeated thousands of times."""
_FAILED: Final = float("inf")
_ELEMENT: Final = torch.float32
_ELEMENT_BYTES: Final = 4

# torch 2.13 begins to rename them, and warns of the old names.
_GATHER: Final = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_REDUCE_SCATTER: Final = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

Clock: TypeAlias = Callable[[], int]


@dataclass(kw_only=True, slots=True, frozen=True)
class Timing:
    """What one rank measured: ns per operation, of each batch."""

    group: Members
    op: str
    bytes: int
    iterations: int
    batches: tuple[float, ...]


class Sweep:
    """The process groups of a sweep, made once; all ranks of the world take part in every call."""

    def __init__(
        self, rounds: Sequence[Round], *, device: torch.device, clock: Clock = time.monotonic_ns
    ) -> None:
        self._device = device
        self._clock = clock
        self._rank = dist.get_rank()
        # What the ranks agree on goes over the processors, so as to leave the links alone.
        self._control = dist.new_group(backend="gloo")
        needed = sorted({members.ranks for round_ in rounds for members in round_.groups})
        self._groups = {ranks: dist.new_group(list(ranks)) for ranks in needed}

    def measure(self, round_: Round, size: int, seconds: float) -> tuple[Timing | None, str]:
        """This rank's timing of one round, and why there is none on any rank, or "".

        `seconds` is what all batches together may take; one iteration each they take anyhow.
        """
        mine = round_.of(self._rank)
        size = _divisible(size, max(len(group.ranks) for group in round_.groups))
        run, why = None, ""
        try:
            run = self._operation(round_.op, mine, size) if mine else _nothing
            self._repeat(run, 1)
            took = self._repeat(run, WARM_UP) / WARM_UP
        except (RuntimeError, NotImplementedError) as error:
            took, why = _FAILED, str(error).strip().splitlines()[0]
        slowest = self._largest(took)
        if slowest == _FAILED or run is None:
            return None, why or "another rank could not"
        fitting = seconds * 1e9 / BATCHES / max(slowest, 1.0)
        iterations = min(max(int(fitting), 1), MOST_ITERATIONS)
        batches = [self._batch(run, iterations) for _ in range(BATCHES)]
        if mine is None:
            return None, ""
        ways = 2 if round_.op == P2P else 1
        return Timing(
            group=mine,
            op=round_.op,
            bytes=size,
            iterations=iterations * BATCHES,
            batches=tuple(batch / iterations / ways for batch in batches),
        ), ""

    def gather(self, value: object) -> list[Any]:
        """What each rank has, in their order, on every rank."""
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, value, group=self._control)
        return gathered

    def _batch(self, run: Callable[[], None], iterations: int) -> float:
        dist.barrier(self._control)
        return self._repeat(run, iterations)

    def _repeat(self, run: Callable[[], None], iterations: int) -> float:
        start = self._clock()
        for _ in range(iterations):
            run()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock() - start

    def _largest(self, value: float) -> float:
        shared = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._control)
        return float(shared.item())

    def _operation(self, op: str, members: Members, size: int) -> Callable[[], None]:
        group, count = self._groups[members.ranks], size // _ELEMENT_BYTES
        part = count // len(members.ranks)
        if op == "all_reduce":
            return partial(_call, dist.all_reduce, self._zeros(count), group=group)
        if op == "all_gather":
            ends = self._zeros(count), self._zeros(part)
            return partial(_call, _GATHER, *ends, group=group)
        if op == "reduce_scatter":
            ends = self._zeros(part), self._zeros(count)
            return partial(_call, _REDUCE_SCATTER, *ends, group=group)
        if op == "all_to_all":
            ends = self._zeros(count), self._zeros(count)
            return partial(_call, dist.all_to_all_single, *ends, group=group)
        return partial(_there_and_back, self._zeros(count), members.ranks, self._rank, group)

    def _zeros(self, count: int) -> torch.Tensor:
        """Zeros stay zeros, however often they are added up."""
        return torch.zeros(count, dtype=_ELEMENT, device=self._device)


def slowest_members(timings: Sequence[Timing]) -> Iterator[tuple[Timing, float]]:
    """For each group (or pair), op and size one of its members' timings, and ns per operation: the
    median over the batches of the slowest member in each.

    Before                                 After
    rank 0 of tp:0-1: batches 10, 30, 12   10, 30, 14: 14
    rank 1 of tp:0-1: batches 9, 11, 14
    """
    members: dict[tuple[Members, str, int], list[Timing]] = {}
    for timing in timings:
        members.setdefault((timing.group, timing.op, timing.bytes), []).append(timing)
    for found in members.values():
        slowest = sorted(max(batch) for batch in zip(*(t.batches for t in found), strict=True))
        yield found[0], slowest[len(slowest) // 2]


def _call(operation: Callable[..., object], *tensors: torch.Tensor, group: object) -> None:
    operation(*tensors, group=group)


def _nothing() -> None:
    """For ranks that have no part in a round."""


def _there_and_back(data: torch.Tensor, ranks: Sequence[int], rank: int, group: object) -> None:
    first, second = ranks
    if rank == first:
        dist.send(data, second, group=group)  # type: ignore[arg-type]
        dist.recv(data, second, group=group)  # type: ignore[arg-type]
    else:
        dist.recv(data, first, group=group)  # type: ignore[arg-type]
        dist.send(data, first, group=group)  # type: ignore[arg-type]


def _divisible(size: int, members: int) -> int:
    """The next size that every member can have an equal whole part of."""
    unit = members * _ELEMENT_BYTES
    return -(-size // unit) * unit
