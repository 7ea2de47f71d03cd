"""One communication operation: from the call that issues it to the wait that ends it.

Hooks hand in what they saw of a call; this file numbers it within its group, records it, and
remembers the handle that somebody may wait on, so that the wait carries the same correlation.
"""

from __future__ import annotations

import contextlib
from typing import Final

import torch
import torch.distributed as dist

from collectors.live.payload import Payload
from tracer.recorder import NONE, Operation, Recorder
from tracer.schema import Kind
from tracer.topology import Group, Topology

_COLLECTIVE: Final = int(Kind.COLLECTIVE)
_WAIT: Final = int(Kind.WAIT)
_MOST_PENDING: Final = 1 << 16
"""Handles that nobody waits on are forgotten, oldest first, beyond this many."""


class Operations:
    """Records calls and waits of communication for one tracer."""

    def __init__(self, recorder: Recorder, topology: Topology) -> None:
        self.recorder = recorder
        self._topology = topology
        self._groups: dict[str, Group] = {}
        self._ranks: dict[str, list[int]] = {}
        self._works: dict[int, tuple[Operation, ...]] = {}
        self._tensors: dict[int, tuple[Operation, ...]] = {}
        self._dtypes: dict[torch.dtype | None, int] = {None: NONE}
        self._batches: dict[str, list[Operation]] = {}
        self._named_at = topology.version
        self.inside: set[int] = set()
        """Threads in which an operator is at work; what it calls in turn is part of it."""

    def collective(
        self, name: int, group: dist.ProcessGroup, payload: Payload, start: int, end: int
    ) -> Operation:
        """Record the call of a collective (name interned) that lasted from `start` to `end` ns."""
        known = self._group(group)
        recorder = self.recorder
        operation = (
            name,
            recorder.stage,
            recorder.microbatch,
            known.index,
            known.next_call(),
            NONE,
            payload.bytes,
            payload.elements,
            self._dtype(payload.dtype),
            recorder.next_correlation(),
        )
        return self._issued(_COLLECTIVE, group, operation, start, end)

    def message(
        self,
        kind: Kind,
        name: int,
        group: dist.ProcessGroup,
        group_peer: int,
        payload: Payload,
        tag: tuple[int, int] | None,
        start: int,
        end: int,
    ) -> Operation:
        """Record the call of a send or a receive; `group_peer` is -1 for any source."""
        known = self._group(group)
        recorder = self.recorder
        me = self._topology.rank
        peer = self._global_rank(group, group_peer) if group_peer >= 0 else NONE
        ends = (me, peer) if kind is Kind.SEND else (peer, me)
        stage, microbatch = tag or (recorder.stage, recorder.microbatch)
        operation = (
            name,
            stage,
            microbatch,
            known.index,
            known.next_message(*ends) if peer != NONE else NONE,
            peer,
            payload.bytes,
            payload.elements,
            self._dtype(payload.dtype),
            recorder.next_correlation(),
        )
        return self._issued(int(kind), group, operation, start, end)

    def open_batch(self, group: dist.ProcessGroup) -> None:
        """From now on the group only collects operations, and one wait will stand for all."""
        self._batches[group.group_name] = []

    def close_batch(self, group: dist.ProcessGroup, work: dist.Work | None) -> None:
        """The group has issued what it collected; `work` is what somebody may wait on."""
        batch = self._batches.pop(group.group_name, None)
        if batch and work is not None:
            _remember(self._works, id(work), tuple(batch))

    def expect_wait(self, work: dist.Work, operation: Operation) -> None:
        """Somebody may call `work.wait()`."""
        _remember(self._works, id(work), (operation,))

    def expect_tensor_wait(self, storage: int, operation: Operation) -> None:
        """Somebody may wait for the tensor with this storage (a functional collective)."""
        _remember(self._tensors, storage, (operation,))

    def take_work(self, work: dist.Work) -> tuple[Operation, ...]:
        """The operations behind `work`, once: only the first wait is recorded."""
        return self._works.pop(id(work), ())

    def take_tensor(self, storage: int) -> tuple[Operation, ...]:
        """The operations behind a tensor's storage, once."""
        return self._tensors.pop(storage, ())

    def waited(self, operation: Operation, start: int, end: int) -> None:
        """Record the wait for an operation."""
        self.recorder.emit_operation(_WAIT, start, end - start, operation)

    def _issued(
        self, kind: int, group: dist.ProcessGroup, operation: Operation, start: int, end: int
    ) -> Operation:
        self.recorder.emit_operation(kind, start, end - start, operation)
        if self._batches and group.group_name in self._batches:
            self._batches[group.group_name].append(operation)
        return operation

    def _dtype(self, dtype: torch.dtype | None) -> int:
        known = self._dtypes.get(dtype)
        if known is None:
            word = str(dtype).removeprefix("torch.")
            known = self._dtypes[dtype] = self.recorder.dtypes.intern(word)
        return known

    def _global_rank(self, group: dist.ProcessGroup, group_rank: int) -> int:
        ranks = self._ranks.get(group.group_name)
        if ranks is None:
            ranks = [dist.get_global_rank(group, rank) for rank in range(group.size())]
            self._ranks[group.group_name] = ranks
        return ranks[group_rank]

    def _group(self, group: dist.ProcessGroup) -> Group:
        if self._named_at != self._topology.version:
            self._groups.clear()
        known = self._groups.get(group.group_name)
        if known is None:
            ranks = dist.get_process_group_ranks(group)
            known = self._topology.group(ranks, group.group_desc)
            known.index = self.recorder.groups.intern(known.name)
            self._groups[group.group_name] = known
            self._named_at = self._topology.version
        return known


def _remember(
    waited_for: dict[int, tuple[Operation, ...]], handle: int, pending: tuple[Operation, ...]
) -> None:
    if len(waited_for) >= _MOST_PENDING:
        # Another thread may change the dictionary between the two calls; then it has room.
        with contextlib.suppress(RuntimeError, StopIteration):
            waited_for.pop(next(iter(waited_for)), None)
    waited_for[handle] = pending
