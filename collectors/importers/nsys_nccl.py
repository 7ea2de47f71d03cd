"""NCCL in an export of Nsight Systems: who takes part, which calls, which kernels do them.

A call is a range of NCCL's NVTX domain. It is launched when its group ends, on the thread that
called it: so a kernel of NCCL carries out the calls of its thread that no kernel has taken yet.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

CALLS: Final = {
    "ncclAllReduce": "all_reduce",
    "ncclAllGather": "all_gather",
    "ncclReduceScatter": "reduce_scatter",
    "ncclBroadcast": "broadcast",
    "ncclBcast": "broadcast",
    "ncclReduce": "reduce",
    "ncclAlltoAll": "all_to_all",
    "ncclAllToAll": "all_to_all",
    "ncclGather": "gather",
    "ncclScatter": "scatter",
    "ncclSend": "send",
    "ncclRecv": "recv",
}
"""NCCL's functions → op."""

OPS: Final = {
    "AllReduce": "all_reduce",
    "AllGather": "all_gather",
    "AllGatherV": "all_gather",
    "ReduceScatter": "reduce_scatter",
    "Broadcast": "broadcast",
    "Reduce": "reduce",
    "AllToAll": "all_to_all",
    "AlltoAll": "all_to_all",
    "All2All": "all_to_all",
    "Gather": "gather",
    "Scatter": "scatter",
    "SendRecv": "send_recv",
    "Send": "send",
    "Recv": "recv",
}
"""NCCL's operations, as its kernels and its Inspector name them → op."""

MESSAGES: Final = ("send", "recv")
PER_RANK: Final = frozenset({"all_gather", "reduce_scatter", "all_to_all", "gather", "scatter"})
"""Operations of which NCCL gives the size of one rank's share; nccl-tests counts all shares."""

_MOST_WAITING: Final = 4096
"""Calls of a thread that no kernel has taken: NCCL puts at most 2,048 messages in a group."""
_KERNEL: Final = re.compile(r"nccl(?:Dev)?Kernel_?([A-Za-z0-9]*)")


def kernel_op(name: str) -> str | None:
    """`ncclDevKernel_AllReduce_Sum_f32_RING_LL` → all_reduce; a kernel of NCCL of no single
    operation → nccl; another kernel → None.
    """
    match = _KERNEL.match(name)
    return None if match is None else OPS.get(match[1], "nccl")


@dataclass(kw_only=True, slots=True, eq=False)
class Call:
    """One call of NCCL; times in ns. `peer` is a rank of the communicator, `bytes` as NCCL says.

    `transfers` are the kernels that carry it out: start, end, stream.
    """

    op: str
    thread: int
    start: int
    end: int
    communicator: int | None
    bytes: int | None
    peer: int | None
    seq: int | None = None
    transfers: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of NCCL and the call of CUDA that launched it; times in ns."""

    op: str
    thread: int | None
    launched: int
    launched_until: int
    start: int
    end: int
    stream: str


def carried_out(calls: Sequence[Call], kernels: Iterable[Kernel]) -> list[Kernel]:
    """Give each call the kernels that carry it out; returns the kernels without a call.

    A kernel takes the calls of its operation that its thread has made and no kernel has taken; if
    there are none, it goes on with what the last one took (a group may need several).
    """
    waiting: dict[int, deque[Call]] = defaultdict(lambda: deque(maxlen=_MOST_WAITING))
    made = sorted(calls, key=lambda call: call.start)
    taken: dict[int, list[Call]] = {}
    rest = []
    position = 0
    for kernel in sorted(kernels, key=lambda kernel: kernel.launched):
        while position < len(made) and made[position].start <= kernel.launched:
            waiting[made[position].thread].append(made[position])
            position += 1
        if kernel.thread is None:
            rest.append(kernel)
            continue
        mine = [call for call in waiting[kernel.thread] if _does(kernel.op, call.op)]
        if mine:
            for call in mine:
                waiting[kernel.thread].remove(call)
            taken[kernel.thread] = mine
        elif not any(_does(kernel.op, call.op) for call in taken.get(kernel.thread, ())):
            rest.append(kernel)
            continue
        for call in taken[kernel.thread]:
            call.transfers.append((kernel.start, kernel.end, kernel.stream))
    return rest


def _does(kernel_op: str, op: str) -> bool:
    if kernel_op == "send_recv":
        return op in (*MESSAGES, "all_to_all", "gather", "scatter")
    return kernel_op in (op, "nccl")


def members(inits: Mapping[int, Mapping[int, tuple[int, int]]]) -> dict[int, dict[int, int]]:
    """Communicator → rank in it → global rank, from the (rank, number of ranks) that each global
    rank had when it joined.
    """
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for rank, joined in inits.items():
        for communicator, (place, _) in joined.items():
            found[communicator][place] = rank
    return dict(found)


def users(
    calls: Mapping[int, Sequence[Call]], known: Mapping[int, Mapping[int, int]]
) -> dict[int, dict[int, int]]:
    """Of communicators that nobody was seen to join: rank in it → global rank, if those that used
    it are its members, in their order.
    """
    found: dict[int, set[int]] = defaultdict(set)
    for rank, made in calls.items():
        for call in made:
            if call.communicator is not None and call.communicator not in known:
                found[call.communicator].add(rank)
    return {communicator: dict(enumerate(sorted(ranks))) for communicator, ranks in found.items()}


def number(calls: Mapping[int, Sequence[Call]], places: Mapping[int, Mapping[int, int]]) -> int:
    """Number the calls of each communicator alike on all ranks; returns how many have no number.

    NCCL's ranges carry none. Where all members made equally many, these are taken to be the same
    ones; where not, the captures did not begin together, and nothing tells which is which.
    """
    collectives: dict[int, dict[int, list[Call]]] = defaultdict(lambda: defaultdict(list))
    messages: dict[tuple[int, int, int], dict[str, list[Call]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for rank, made in calls.items():
        for call in sorted(made, key=lambda call: call.start):
            if call.communicator is None:
                continue
            if call.op not in MESSAGES:
                collectives[call.communicator][rank].append(call)
                continue
            other = places.get(call.communicator, {}).get(-1 if call.peer is None else call.peer)
            if other is not None:
                ends = (rank, other) if call.op == "send" else (other, rank)
                messages[call.communicator, *ends][call.op].append(call)
    sequences: list[dict[Any, list[Call]]] = [*collectives.values(), *messages.values()]
    for by_rank in sequences:
        counts = Counter(len(made) for made in by_rank.values())
        if len(counts) == 1:
            for made in by_rank.values():
                for seq, call in enumerate(made):
                    call.seq = seq
    return sum(call.seq is None for made in calls.values() for call in made)
