"""One communication operation: from the call that issues it to the wait that ends it.

Hooks hand in what they saw of a call; this file numbers it within its group, records it, and
remembers the handle that somebody may wait on, so that the wait carries the same correlation.
"""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple

import torch.distributed as dist

from collectors.live.payload import Payload
from tracer.recorder import NONE, Recorder
from tracer.schema import Kind
from tracer.topology import Group, Topology

_MOST_PENDING: Final = 1 << 16
"""Handles that nobody waits on are forgotten, oldest first, beyond this many."""


class Pending(NamedTuple):
    """An operation that was issued and not waited for yet; words are interned."""

    name: int
    group: int
    seq: int
    peer: int
    payload: Payload
    dtype: int
    stage: int
    microbatch: int
    correlation: int


class Operations:
    """Records calls and waits of communication for one tracer."""

    def __init__(self, recorder: Recorder, topology: Topology) -> None:
        self.recorder = recorder
        self._topology = topology
        self._groups: dict[str, Group] = {}
        self._works: dict[int, tuple[Pending, ...]] = {}
        self._tensors: dict[int, tuple[Pending, ...]] = {}
        self._batches: dict[str, list[Pending]] = {}
        self._named_at = topology.version
        self.inside: set[int] = set()
        """Threads in which an operator is at work; what it calls in turn is part of it."""

    def collective(
        self, op: str, group: dist.ProcessGroup, payload: Payload, start: int, end: int
    ) -> Pending:
        """Record the call of a collective that lasted from `start` to `end` (ns)."""
        known = self._group(group)
        seq = known.next_call()
        pending = self._issue(Kind.COLLECTIVE, op, known, seq, NONE, payload, start, end)
        return self._batched(group, pending)

    def message(
        self,
        kind: Kind,
        group: dist.ProcessGroup,
        group_peer: int,
        payload: Payload,
        tag: tuple[int, int] | None,
        start: int,
        end: int,
    ) -> Pending:
        """Record the call of a send or a receive; `group_peer` is -1 for any source."""
        known = self._group(group)
        me = self._topology.rank
        peer = dist.get_global_rank(group, group_peer) if group_peer >= 0 else NONE
        ends = (me, peer) if kind is Kind.SEND else (peer, me)
        seq = known.next_message(*ends) if peer != NONE else NONE
        pending = self._issue(kind, kind.label, known, seq, peer, payload, start, end, tag)
        return self._batched(group, pending)

    def open_batch(self, group: dist.ProcessGroup) -> None:
        """From now on the group only collects operations, and one wait will stand for all."""
        self._batches[group.group_name] = []

    def close_batch(self, group: dist.ProcessGroup, work: dist.Work | None) -> None:
        """The group has issued what it collected; `work` is what somebody may wait on."""
        batch = self._batches.pop(group.group_name, None)
        if batch and work is not None:
            _remember(self._works, id(work), tuple(batch))

    def expect_wait(self, work: dist.Work, pending: Pending) -> None:
        """Somebody may call `work.wait()`."""
        _remember(self._works, id(work), (pending,))

    def expect_tensor_wait(self, storage: int, pending: Pending) -> None:
        """Somebody may wait for the tensor with this storage (a functional collective)."""
        _remember(self._tensors, storage, (pending,))

    def take_work(self, work: dist.Work) -> tuple[Pending, ...]:
        """The operations behind `work`, once: only the first wait is recorded."""
        return self._works.pop(id(work), ())

    def take_tensor(self, storage: int) -> tuple[Pending, ...]:
        """The operations behind a tensor's storage, once."""
        return self._tensors.pop(storage, ())

    def waited(self, pending: Pending, start: int, end: int) -> None:
        """Record the wait for an operation."""
        self.recorder.emit(
            Kind.WAIT,
            pending.name,
            start,
            end - start,
            stage=pending.stage,
            microbatch=pending.microbatch,
            group=pending.group,
            seq=pending.seq,
            peer=pending.peer,
            bytes=pending.payload.bytes,
            count=pending.payload.elements,
            dtype=pending.dtype,
            correlation=pending.correlation,
        )

    def _issue(
        self,
        kind: Kind,
        op: str,
        group: Group,
        seq: int,
        peer: int,
        payload: Payload,
        start: int,
        end: int,
        tag: tuple[int, int] | None = None,
    ) -> Pending:
        recorder = self.recorder
        stage, microbatch = tag or (recorder.stage, recorder.microbatch)
        pending = Pending(
            name=recorder.names.intern(op),
            group=group.index,
            seq=seq,
            peer=peer,
            payload=payload,
            dtype=recorder.dtypes.intern(payload.dtype) if payload.dtype else NONE,
            stage=stage,
            microbatch=microbatch,
            correlation=recorder.next_correlation(),
        )
        recorder.emit(
            kind,
            pending.name,
            start,
            end - start,
            stage=stage,
            microbatch=microbatch,
            group=pending.group,
            seq=seq,
            peer=peer,
            bytes=payload.bytes,
            count=payload.elements,
            dtype=pending.dtype,
            correlation=pending.correlation,
        )
        return pending

    def _batched(self, group: dist.ProcessGroup, pending: Pending) -> Pending:
        if self._batches and group.group_name in self._batches:
            self._batches[group.group_name].append(pending)
        return pending

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
    waited_for: dict[int, tuple[Pending, ...]], handle: int, pending: tuple[Pending, ...]
) -> None:
    if len(waited_for) >= _MOST_PENDING:
        # Another thread may change the dictionary between the two calls; then it has room.
        with contextlib.suppress(RuntimeError, StopIteration):
            waited_for.pop(next(iter(waited_for)), None)
    waited_for[handle] = pending
