"""Communication in a Kineto file: calls, waits and transfers, with group, number and bytes.

On NCCL every call leaves `record_param_comms`, whose arguments say all of it; Kineto repeats them
on the kernel that carries it out. gloo leaves only the operators `c10d::…`, which name no group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from collectors.importers.chrome_json import Event
from collectors.importers.growing_columns import Grown
from collectors.importers.kineto_columns import METADATA, NONE, Bools, Ints, arguments_of
from collectors.importers.kineto_events import WAITS, KinetoEvents
from collectors.importers.process_groups import (
    elements_moved,
    group_of,
    member_ranks,
)
from collectors.torch_names import element, operation_named
from tracer.schema import LONGEST_KERNEL
from tracer.topology import Topology

P2P: Final = ("send", "recv")
_STEP_BITS: Final = 20
"""Operations without a number are counted in each step anew, so that ranks whose recording began
at different operations agree; a step has fewer than a million in a group."""
_REPEATED_BITS: Final = 32
_MOST_REPEATED: Final = 200
"""Operations that were coalesced share a number; together below 2^40."""
_MOST_SEQ: Final = 1 << _REPEATED_BITS
"""Larger numbers are not torch's, which counts calls; they would be taken for repeated ones."""

StepAt = Callable[[Ints], Ints]
"""The step of each time of the host."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Described:
    """What operations are that differ by their number only. `group` is None where none is named
    that the rank is in.
    """

    op: str
    group: str | None
    peer: int | None
    bytes: int | None
    count: int | None
    dtype: str | None


@dataclass(kw_only=True, slots=True)
class Operations:
    """Operations of a rank, columns of equal length, in order of their calls; times in ns, -1 where
    something is unknown.

    Attributes:
        what: number in `described`.
        start, duration, thread, step: of the call.
        seq: number in the group.
        stage, microbatch: of messages whose label says it.
        wait_start, wait: when somebody waited for it, and how long (-1: nobody did).
        begin, end, lane: of the kernels that carry it out.
        kernels, of_kernels: rows of `KinetoEvents.kernels`, and the operation of each.
    """

    described: list[Described]
    what: Ints
    start: Ints
    duration: Ints
    thread: Ints
    step: Ints
    seq: Ints
    stage: Ints
    microbatch: Ints
    wait_start: Ints
    wait: Ints
    begin: Ints
    end: Ints
    lane: Ints
    kernels: Ints
    of_kernels: Ints

    def __len__(self) -> int:
        return len(self.what)

    def are(self, test: Callable[[Described], bool]) -> Bools:
        """Which operations are so."""
        return np.array([test(one) for one in self.described], np.bool_)[self.what]

    def column(self, of: Callable[[Described], int | None]) -> Ints:
        """What is described of each, -1 where that is None."""
        values = [of(one) for one in self.described]
        return np.array([NONE if v is None else v for v in values], np.int64)[self.what]


def operations_of(
    events: KinetoEvents,
    topology: Topology,
    groups: dict[str, tuple[int, ...]],
    step_at: StepAt,
) -> Operations:
    """All operations of the rank in order of their calls, numbered in their groups. A kernel whose
    call is not in the file stands for both.

    groups: members by torch's name of a group.
    """
    calls, carried, kernels = events.calls, events.carried, events.kernels
    by_start = np.argsort(_ints(calls.start), kind="stable")
    names = [_operation_name(event) for event in events.said]
    ops = [operation_named(name) for name in names]
    are_operations = np.array([op is not None for op in ops], np.bool_)
    is_asked, is_wait = _asked(events.said, names, are_operations, _ints(calls.said)[by_start])
    asked = by_start[is_asked]
    row, told = _ints(carried.row), _ints(carried.said)
    of_kernels = _called(_ints(calls.external)[asked], _ints(carried.external))
    alone = np.flatnonzero((of_kernels == NONE) & _chosen(are_operations, told))
    of_kernels[alone] = len(asked) + np.arange(len(alone))

    def both(of_calls: Grown, of_alone: Ints | int) -> Ints:
        """A column of those that were called, and of those that were not."""
        return np.concatenate([_ints(of_calls)[asked], np.broadcast_to(of_alone, len(alone))])

    start = both(calls.start, _ints(kernels.start)[row[alone]])
    order = np.argsort(start, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    what, described = _described(events.said, ops, both(calls.said, told[alone]), topology, groups)
    torch_seq = both(calls.seq, _ints(carried.seq)[alone])
    torch_seq[torch_seq >= _MOST_SEQ] = NONE
    wait_start, wait = _waits(events, by_start[is_asked | is_wait], is_wait[is_asked | is_wait])
    nothing = np.full(len(order), NONE, np.int64)
    found = Operations(
        described=described,
        what=what[order],
        start=start[order],
        duration=both(calls.duration, 0)[order],
        thread=both(calls.thread, NONE)[order],
        step=step_at(start[order]),
        seq=torch_seq[order],
        stage=nothing.copy(),
        microbatch=nothing.copy(),
        wait_start=np.concatenate([wait_start, nothing[: len(alone)]])[order],
        wait=np.concatenate([wait, nothing[: len(alone)]])[order],
        begin=nothing.copy(),
        end=nothing.copy(),
        lane=nothing.copy(),
        kernels=row[of_kernels != NONE],
        of_kernels=place[of_kernels[of_kernels != NONE]],
    )
    _carry_out(found, events)
    _number_all(found, topology.rank)
    return found


def _asked(
    said: Sequence[Event], names: Sequence[str], are_operations: Bools, calls: Ints
) -> tuple[Bools, Bools]:
    """Which calls ask for an operation, and which wait for one, by what they say. Those that count:
    with arguments where any have them, else the operators of c10d, and in either case the waits of
    functional collectives, which have none.

    names: of the operation in each of `said`, and `are_operations` whether there is such a one.
    """
    counts = np.array([METADATA in arguments_of(event) for event in said], np.bool_)
    if not counts[np.bincount(calls, minlength=len(said)) > 0].any():
        counts = np.array([_name(event).startswith("c10d::") for event in said], np.bool_)
    tensor_waits = [_name(event) == "_c10d_functional::wait_tensor" for event in said]
    counts |= np.array(tensor_waits, np.bool_)
    waits = counts & np.array([name.endswith(WAITS) for name in names], np.bool_)
    return _chosen(counts & ~waits & are_operations, calls), _chosen(waits, calls)


def _called(calls: Ints, kernels: Ints) -> Ints:
    """The last call of each kernel's external id; `NONE` where there is none."""
    order = np.argsort(calls, kind="stable")
    at = np.searchsorted(calls[order], kernels, side="right") - 1
    known = (at >= 0) & (kernels >= 0)
    known[known] = calls[order][at[known]] == kernels[known]
    found = np.full(len(kernels), NONE, np.int64)
    found[known] = order[at[known]]
    return found


def _waits(events: KinetoEvents, rows: Ints, are_waits: Bools) -> tuple[Ints, Ints]:
    """When somebody waited for each operation among the calls `rows`, and how long. A wait is for
    the last operation of its group and number, else for the last one that its thread asked for.
    """
    calls = events.calls
    starts, lengths = (np.full(int((~are_waits).sum()), NONE, np.int64) for _ in range(2))
    if not are_waits.any():
        return starts, lengths
    by_seq: dict[tuple[str, int], int] = {}
    unwaited: dict[int, int] = {}
    groups = [str(arguments_of(event).get("Process Group Name", "")) for event in events.said]
    columns = (calls.said, calls.seq, calls.thread, calls.start, calls.duration)
    count = 0
    for waits, said, number, thread, start, duration in zip(
        are_waits.tolist(), *(_ints(column)[rows].tolist() for column in columns), strict=True
    ):
        key = (groups[said], number if number < _MOST_SEQ else NONE)
        if not waits:
            by_seq[key] = unwaited[thread] = count
            count += 1
            continue
        waited = by_seq[key] if key in by_seq else unwaited.pop(thread, None)
        if waited is not None and lengths[waited] == NONE:
            starts[waited], lengths[waited] = start, duration
    return starts, lengths


def _described(
    said: Sequence[Event],
    ops: Sequence[str | None],
    told: Ints,
    topology: Topology,
    groups: dict[str, tuple[int, ...]],
) -> tuple[Ints, list[Described]]:
    """Number and description of what operations say of themselves, in the order of their use."""
    used, first, what = np.unique(told, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    known = _Groups(topology, groups)
    return place[what], [
        _description(said[number], ops[number] or "", known) for number in used[order].tolist()
    ]


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


def _description(event: Event, op: str, known: _Groups) -> Described:
    arguments = arguments_of(event)
    pg_name = str(arguments.get("Process Group Name", ""))
    size = _number(arguments, "Group size")
    members, group = known.of(arguments, pg_name, size)
    sent, received = _number(arguments, "In msg nelems"), _number(arguments, "Out msg nelems")
    kind = element(str(arguments.get("dtype", "")))
    count = None
    if sent >= 0 and received >= 0 and kind is not None and op != "barrier":
        count = elements_moved(op, sent, received, len(members) or max(size, 1))
    others = [] if group is None else [other for other in members if other != known.rank]
    return Described(
        op=op,
        group=group,
        peer=_peer(op, arguments, others) if op in P2P else None,
        bytes=None if count is None or kind is None else count * kind[1],
        count=count,
        dtype=None if count is None or kind is None else kind[0],
    )


def _peer(op: str, arguments: dict[str, Any], others: Sequence[int]) -> int | None:
    named = _number(arguments, "Dst Rank" if op == "send" else "Src Rank")
    if named >= 0:
        return named
    return others[0] if len(others) == 1 else None


def _carry_out(found: Operations, events: KinetoEvents) -> None:
    """From the first start of an operation's kernels to their last end, on the lane of the first
    that the file names.
    """
    kernels, rows, which = events.kernels, found.kernels, found.of_kernels
    start = _ints(kernels.start)[rows]
    found.begin[which] = found.end[which] = start  # of whatever sign
    np.minimum.at(found.begin, which, start)
    np.maximum.at(found.end, which, start + _ints(kernels.duration)[rows])
    found.lane[which[::-1]] = _ints(kernels.lane)[rows[::-1]]


def _number_all(found: Operations, rank: int) -> None:
    """Number collectives in their group by torch's own number, else by their order in the step;
    messages between two ranks by their order in the step.
    """
    names = dict.fromkeys(one.group for one in found.described if one.group is not None)
    numbers = {name: number for number, name in enumerate(names)}
    group = found.column(lambda one: None if one.group is None else numbers[one.group])
    peer = found.column(lambda one: one.peer)
    is_send, is_message = found.are(lambda one: one.op == "send"), found.are(_is_message)
    has_seq = ~is_message & (found.seq >= 0)
    keys = (
        group,
        np.where(is_message, 0, np.where(has_seq, 1, 2)),
        np.where(has_seq, found.seq, found.step),
        np.where(is_message, np.where(is_send, rank, peer), 0),
        np.where(is_message, np.where(is_send, peer, rank), 0),
    )
    before = _equal_before(keys)
    in_step = (np.maximum(found.step, 0) % (1 << _STEP_BITS - 1) << _STEP_BITS) + before
    repeated = found.seq + (np.minimum(before, _MOST_REPEATED) << _REPEATED_BITS)
    found.seq = np.where(group < 0, NONE, np.where(has_seq, repeated, in_step))


def _equal_before(keys: tuple[Ints, ...]) -> Ints:
    """How many rows before each are equal to it: `7 9 7 7` → `0 0 1 2`."""
    order = np.lexsort(keys)
    begins = np.ones(len(order), np.bool_)
    begins[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    places = np.arange(len(order))
    found = np.empty(len(order), np.int64)
    found[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return found


def _is_message(one: Described) -> bool:
    return one.op in P2P


def _name(event: Event) -> str:
    return str(event.get("name", ""))[:LONGEST_KERNEL]


def _operation_name(event: Event) -> str:
    return str(arguments_of(event).get(METADATA, _name(event)))


def _ints(values: Grown) -> Ints:
    return np.asarray(values, np.int64)


def _chosen(are: Bools, numbers: Ints) -> Bools:
    return are[numbers] if len(are) else np.zeros(len(numbers), np.bool_)


def _number(arguments: dict[str, Any], key: str) -> int:
    value = arguments.get(key)
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48:
        return value
    return -1
