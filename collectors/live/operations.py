"""One communication operation: from the call that issues it to the wait that ends it.

Hooks hand in what they saw of a call; this file numbers it within its group, records it, and
remembers the handle that somebody may wait on, so that the wait carries the same correlation.
"""

from __future__ import annotations

import weakref
from threading import get_ident
from typing import Any, Final, NamedTuple, TypeAlias

import torch
import torch.distributed as dist

from collectors.live.payload import Payload, payload
from tracer.recorder import Recorder
from tracer.rings import (
    NONE,
    RECORD_BYTES,
    Operation,
    pack_operation,
    pack_operation_event,
)
from tracer.schema import Kind
from tracer.topology import Group, Topology

_COLLECTIVE: Final = int(Kind.COLLECTIVE)
_MOST_PENDING: Final = 1 << 16
"""Handles that nobody waits on are forgotten, oldest first, beyond this many."""


class _Known:
    """What the hooks need to know of one process group; `batch` collects while it coalesces."""

    __slots__ = ("batch", "group", "process_group", "ranks", "version")

    def __init__(self, group: Group, process_group: Any, ranks: list[int], version: int) -> None:
        self.group = group
        self.process_group = process_group
        self.ranks = ranks
        self.version = version
        self.batch: list[Operation] | None = None


Pending: TypeAlias = dict[int, tuple[Operation, ...]]
"""Operations by a handle that somebody may wait on, once: whoever waits takes them out."""


class Part(NamedTuple):
    """An operation that another one is made of."""

    group: Group
    seq: int
    peer: int
    bytes: int


class Operations:
    """Records calls and waits of communication for one tracer."""

    __slots__ = (
        "_known",
        "_topology",
        "dtypes",
        "inside",
        "merging",
        "plain",
        "recorder",
        "tensors",
        "works",
    )

    def __init__(self, recorder: Recorder, topology: Topology) -> None:
        self.recorder = recorder
        self._topology = topology
        self._known: dict[int, _Known] = {}
        # Dictionaries and no kinds of them: Python finds its way through those in fewer calls.
        self.plain: dict[int, Group] = {}
        """By a process group's id: the groups of which a collective is counted and recorded as it
        comes, since nothing is merged and nothing coalesces. Found by `note_plain`.
        """
        topology.on_growth.append(self.plain.clear)
        self.works: Pending = {}
        """Operations by the id of the `Work` that somebody may wait on."""
        self.tensors: Pending = {}
        """Operations by the storage of the tensor that somebody may wait for (functional)."""
        self.dtypes: dict[torch.dtype | None, tuple[int, int]] = {}
        """Interned element types, and the bytes of an element; None is not among them."""
        self.merging: dict[int, list[Part]] = {}
        """By thread: the operations that are parts of one that is recorded as a whole."""
        self.inside: set[int] = set()
        """Threads in which an operation is at work; what it calls in turn is part of it."""

    def collective(
        self,
        name: int,
        group: dist.ProcessGroup,
        buffers: Any,
        copies: int,
        start: int,
        end: int,
    ) -> Operation | None:
        """Record the call of a collective (name interned) that lasted from `start` to `end` ns;
        its payload is that of `buffers`, `copies` times over.

        None if it is a part of another one, which is recorded as a whole.

        One tensor's payload and the append are written out here and not called, and once more in
        collectives.py, which says why.
        """
        if type(buffers) is list and len(buffers) == 1:
            buffers = buffers[0]
        if type(buffers) is torch.Tensor:
            elements = buffers.numel() * copies
            dtype, item = self.dtypes.get(buffers.dtype) or self._element(buffers.dtype)
            size = elements * item
        else:
            size, elements, of_type = payload(buffers, copies)
            dtype, _ = self._element(of_type)
        known = self._known.get(id(group))
        if known is None or known.version != self._topology.version:
            known = self._look_up(group)
        recorder = self.recorder
        counted = known.group
        seq = counted.calls
        counted.calls = seq + 1
        if self.merging and self._is_part(Part(counted, seq, NONE, size)):
            return None
        operation = pack_operation(
            name,
            recorder.stage,
            recorder.microbatch,
            counted.index,
            seq,
            size,
            elements,
            recorder.next_correlation(),
            NONE,
            NONE,
            dtype,
        )
        if recorder.active and not recorder.paused:
            try:
                lap = recorder.local.lap
            except AttributeError:
                lap = recorder.add_ring()
            at = lap.at
            if at == lap.end:
                lap, at = recorder.next_lap(), 0
            duration = end - start
            pack_operation_event(
                lap.data, at, start, duration, recorder.step, _COLLECTIVE, 1, operation
            )
            lap.at = at + RECORD_BYTES
        if known.batch is not None:
            known.batch.append(operation)
        return operation

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
    ) -> Operation | None:
        """Record the call of a send or a receive; `group_peer` is -1 for any source.

        None if it is a part of another operation.
        """
        known = self._known.get(id(group))
        if known is None or known.version != self._topology.version:
            known = self._look_up(group)
        recorder = self.recorder
        me = self._topology.rank
        peer = known.ranks[group_peer] if group_peer >= 0 else NONE
        ends = (me, peer) if kind is Kind.SEND else (peer, me)
        stage, microbatch = tag or (recorder.stage, recorder.microbatch)
        size, elements, dtype = payload
        seq = known.group.next_message(*ends) if peer != NONE else NONE
        known.group.sent += 1
        if self.merging and self._is_part(Part(known.group, seq, peer, size)):
            return None
        operation = pack_operation(
            name,
            stage,
            microbatch,
            known.group.index,
            seq,
            size,
            elements,
            recorder.next_correlation(),
            NONE,
            peer,
            self._element(dtype)[0],
        )
        recorder.emit_operation(kind, start, end - start, operation)
        if known.batch is not None:
            known.batch.append(operation)
        return operation

    def merged(
        self, kind: Kind, name: int, parts: list[Part], dtype: torch.dtype, start: int, end: int
    ) -> None:
        """Record the whole of `parts` as one operation, numbered as the first of them."""
        if not parts:
            return
        first, size = parts[0], sum(part.bytes for part in parts)
        recorder = self.recorder
        if kind is Kind.COLLECTIVE:
            first.group.calls = first.seq + 1
            first.group.parts += len(parts) - 1
        elif first.peer != NONE:
            me = self._topology.rank
            ends = (me, first.peer) if kind is Kind.SEND else (first.peer, me)
            first.group.messages[ends] = first.seq + 1
        operation = pack_operation(
            name,
            recorder.stage,
            recorder.microbatch,
            first.group.index,
            first.seq,
            size,
            size // dtype.itemsize,
            recorder.next_correlation(),
            NONE,
            first.peer,
            self._element(dtype)[0],
        )
        recorder.emit_operation(kind, start, end - start, operation)

    def _is_part(self, part: Part) -> bool:
        whole = self.merging.get(get_ident())
        if whole is None:
            return False
        whole.append(part)
        return True

    def note_plain(self, group: dist.ProcessGroup) -> None:
        """Have the collectives of this group take the short way, if they are plain now.

        Whatever makes them otherwise takes the group out of `plain` once it is so. Therefore it is
        looked at again: another thread may have done that in between.
        """
        if self._is_plain(group):
            self.plain[id(group)] = self._known[id(group)].group
            if not self._is_plain(group):
                self.plain.clear()

    def _is_plain(self, group: dist.ProcessGroup) -> bool:
        known = self._known.get(id(group))
        return (
            known is not None
            and known.version == self._topology.version
            and known.batch is None
            and not self.merging
        )

    def merge(self, thread: int) -> list[Part]:
        """From now on what this thread issues is part of one operation: the list of them."""
        parts = self.merging[thread] = []
        self.plain.clear()
        return parts

    def forget_oldest(self) -> None:
        """Bound what nobody waits on. Called now and then, off the hot path."""
        for pending in (self.works, self.tensors):
            for handle in list(pending)[: max(0, len(pending) - _MOST_PENDING)]:
                pending.pop(handle, None)

    def _element(self, dtype: torch.dtype | None) -> tuple[int, int]:
        """The interned element type, and the bytes of an element; no payload has none."""
        if dtype is None:
            return NONE, 0
        found = self.dtypes.get(dtype)
        if found is None:
            index = self.recorder.dtypes.intern(str(dtype).removeprefix("torch."))
            found = self.dtypes[dtype] = index, dtype.itemsize
        return found

    def open_batch(self, group: dist.ProcessGroup) -> None:
        """From now on the group only collects operations, and one wait will stand for all."""
        self._look_up(group).batch = []
        self.plain.clear()

    def close_batch(self, group: dist.ProcessGroup, work: dist.Work | None) -> None:
        """The group has issued what it collected; `work` is what somebody may wait on."""
        known = self._look_up(group)
        batch, known.batch = known.batch, None
        if batch and work is not None:
            self.works[id(work)] = tuple(batch)

    def _look_up(self, group: dist.ProcessGroup) -> _Known:
        """By identity, since asking a process group for its name costs as much as an event.

        The entry goes with the process group, so that a later one at the same address is
        looked up anew.
        """
        known = self._known.get(id(group))
        if known is not None and known.version == self._topology.version:
            return known
        address = id(group)
        in_group_order = list(dist.get_process_group_ranks(group))
        named = self._topology.group(in_group_order, group.group_desc)
        named.index = self.recorder.groups.intern(named.name)
        made = _Known(
            named,
            weakref.ref(group, lambda _: self._forget(address)),
            in_group_order,
            self._topology.version,
        )
        made.batch = known.batch if known is not None else None
        self._known[address] = made
        return made

    def _forget(self, address: int) -> None:
        self.plain.pop(address, None)
        self._known.pop(address, None)
