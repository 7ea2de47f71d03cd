"""Communication in a Kineto file: calls, waits and transfers, with group, number and bytes.

On NCCL every call leaves `record_param_comms`, whose arguments say all of it; Kineto repeats them
on the kernel that carries it out. gloo leaves only the operators `c10d::…`, which name no group.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np

from collectors.importers.kineto_columns import arguments_of
from collectors.importers.kineto_events import Communication, KinetoEvents
from collectors.importers.process_groups import (
    elements_moved,
    group_of,
    member_ranks,
)
from collectors.torch_names import element, operation_named
from tracer.topology import Topology

_P2P: Final = ("send", "recv")
_STEP_BITS: Final = 20
"""Operations without a number are counted in each step anew, so that ranks whose recording began
at different operations agree; a step has fewer than a million in a group."""
_REPEATED_BITS: Final = 32
_MOST_REPEATED: Final = 200
"""Operations that were coalesced share a number; together below 2^40."""


@dataclass(slots=True)
class Operation:
    """One operation: when it was called, waited for and carried out; times in ns."""

    op: str
    start: int
    duration: int
    thread: int
    external: int
    step: int
    torch_seq: int
    members: tuple[int, ...]
    pg_name: str
    group: str | None = None
    seq: int | None = None
    peer: int | None = None
    bytes: int | None = None
    count: int | None = None
    dtype: str | None = None
    stage: int | None = None
    microbatch: int | None = None
    wait: tuple[int, int] | None = None
    transfer: tuple[int, int, int] | None = None
    """Start, end and lane of the kernel."""
    kernels: list[int] = field(default_factory=list)


def operations_of(
    events: KinetoEvents,
    topology: Topology,
    groups: dict[str, tuple[int, ...]],
    step_at: Any,
) -> list[Operation]:
    """All operations of the rank in order of their calls, numbered in their groups.

    groups: members by torch's name of a group. step_at: the step of an array of host times.
    """
    calls = sorted(_calls(events), key=lambda call: call.start)
    steps = step_at(np.array([call.start for call in calls], np.int64)).tolist()
    known = _Groups(topology, groups)
    found: list[Operation] = []
    by_seq: dict[tuple[str, int], Operation] = {}
    unwaited: dict[int, Operation] = {}
    for call, step in zip(calls, steps, strict=True):
        arguments = call.arguments
        name = str(arguments.get("Collective name", call.name))
        pg_name, seq = str(arguments.get("Process Group Name", "")), _number(arguments, "Seq")
        if name.endswith(("wait", "wait_tensor")):
            waited = by_seq.get((pg_name, seq)) or unwaited.pop(call.thread, None)
            if waited is not None and waited.wait is None:
                waited.wait = (call.start, call.duration)
            continue
        op = _operation_named(name)
        if op is None:
            continue
        operation = Operation(
            op, call.start, call.duration, call.thread, call.external, step, seq, (), pg_name
        )
        _describe(operation, arguments, known)
        found.append(operation)
        by_seq[pg_name, seq] = unwaited[call.thread] = operation
    _carry_out(events, found, known, step_at)
    _number_all(found, topology)
    return found


def _calls(events: KinetoEvents) -> Iterator[Communication]:
    """Those that count: with arguments where any have them, else the operators of c10d, and in
    either case the waits of functional collectives, which have none.
    """
    described = any("Collective name" in call.arguments for call in events.communication)
    for call in events.communication:
        is_call = "Collective name" in call.arguments
        if not described:
            is_call = call.name.startswith("c10d::")
        if is_call or call.name == "_c10d_functional::wait_tensor":
            yield call


class _Groups:
    """Members and name of the group of an operation; many operations say the same of theirs."""

    def __init__(self, topology: Topology, named: dict[str, tuple[int, ...]]) -> None:
        self.rank = topology.rank
        self._topology = topology
        self._named = named
        self._known: dict[tuple[str, str, int, str], tuple[tuple[int, ...], str | None]] = {}

    def of(
        self, arguments: dict[str, Any], pg_name: str, size: int
    ) -> tuple[tuple[int, ...], str | None]:
        """The name is None where this rank is no member."""
        ranks = arguments.get("Process Group Ranks")
        description = str(arguments.get("Process Group Description", ""))
        key = (repr(ranks), pg_name, size, description)
        if key not in self._known:
            self._known[key] = self._found(ranks, pg_name, size, description)
        return self._known[key]

    def _found(
        self, ranks: Any, pg_name: str, size: int, description: str
    ) -> tuple[tuple[int, ...], str | None]:
        members = member_ranks(ranks, size)
        members = members or self._named.get(pg_name, ()) or self._only(size)
        if self.rank not in members:
            return members, None
        return members, group_of(self._topology, members, description).name

    def _only(self, size: int) -> tuple[int, ...]:
        """Where no group is named: the one that there is, or the one of all ranks by its size."""
        if size > 1 and size == self._topology.world_size:
            return tuple(range(size))
        several = [ranks for ranks in self._named.values() if len(ranks) > 1]
        return several[0] if size < 0 and len(set(several)) == 1 else ()


_operation_named: Final = lru_cache(maxsize=4096)(operation_named)
_element: Final = lru_cache(maxsize=4096)(element)


def _describe(operation: Operation, arguments: dict[str, Any], known: _Groups) -> None:
    size = _number(arguments, "Group size")
    members, operation.group = known.of(arguments, operation.pg_name, size)
    operation.members = members if operation.group is not None else ()
    sent, received = _number(arguments, "In msg nelems"), _number(arguments, "Out msg nelems")
    kind = _element(str(arguments.get("dtype", "")))
    if sent >= 0 and received >= 0 and kind is not None and operation.op != "barrier":
        members_count = len(members) or max(size, 1)
        operation.count = elements_moved(operation.op, sent, received, members_count)
        operation.dtype, operation.bytes = kind[0], operation.count * kind[1]
    if operation.op in _P2P:
        operation.peer = _peer(operation, arguments, known.rank)


def _peer(operation: Operation, arguments: dict[str, Any], rank: int) -> int | None:
    named = _number(arguments, "Dst Rank" if operation.op == "send" else "Src Rank")
    if named >= 0:
        return named
    others = [other for other in operation.members if other != rank]
    return others[0] if len(others) == 1 else None


def _carry_out(
    events: KinetoEvents,
    found: list[Operation],
    known: _Groups,
    step_at: Any,
) -> None:
    """Give each operation its kernels; a kernel whose call is not in the file stands for both."""
    by_external = {operation.external: operation for operation in found if operation.external >= 0}
    kernels = events.kernels
    for row, (external, text) in events.of_kernels.items():
        operation = by_external.get(external)
        if operation is None:
            arguments = arguments_of(json.loads(text))
            named = arguments.get("Collective name", events.names.words[kernels.name[row]])
            op = _operation_named(str(named))
            if op is None:
                continue
            start = kernels.start[row]
            step = int(step_at(np.array([start], np.int64))[0])
            seq, pg_name = _number(arguments, "Seq"), str(arguments.get("Process Group Name", ""))
            operation = Operation(op, start, 0, -1, -1, step, seq, (), pg_name)
            _describe(operation, arguments, known)
            found.append(operation)
        operation.kernels.append(row)
        start, end = kernels.start[row], kernels.start[row] + kernels.duration[row]
        before = operation.transfer or (start, end, kernels.lane[row])
        operation.transfer = (min(before[0], start), max(before[1], end), before[2])
    found.sort(key=lambda operation: operation.start)


def _number_all(found: list[Operation], topology: Topology) -> None:
    """Number collectives in their group by torch's own number, else by their order in the step;
    messages between two ranks by their order in the step.
    """
    counts: dict[Any, int] = defaultdict(int)
    for operation in found:
        if operation.group is None:
            continue
        key: tuple[Any, ...]
        base = max(operation.step, 0) % (1 << _STEP_BITS - 1) << _STEP_BITS
        if operation.op in _P2P:
            ends = (topology.rank, operation.peer)
            key = (operation.group, ends if operation.op == "send" else ends[::-1], operation.step)
            operation.seq = base + counts[key]
        elif operation.torch_seq >= 0:
            key = (operation.group, "seq", operation.torch_seq)
            operation.seq = operation.torch_seq + (
                min(counts[key], _MOST_REPEATED) << _REPEATED_BITS
            )
        else:
            key = (operation.group, operation.step)
            operation.seq = base + counts[key]
        counts[key] += 1


def _number(arguments: dict[str, Any], key: str) -> int:
    value = arguments.get(key)
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48:
        return value
    return -1
