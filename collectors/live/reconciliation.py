"""Find the collectives that no hook saw, and record them: nothing escapes in silence.

What C++ issues itself (the reducer of DDP, compiled code) passes no Python. The flight recorder
lists it, so its list is compared with what the hooks recorded: an entry that was made inside
the span of a hooked call is that call; every other one is recorded here, on the lane
`host:unhooked`, with the time when it was issued and no duration (the flight recorder has no
end on gloo). All of this happens on the writer thread, and only while a backend has counted
more collectives than the hooks.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from torch.distributed import distributed_c10d

from collectors.flight_entries import Entry
from collectors.live.flight_recorder import dump
from tracer.recorder import Recorder
from tracer.rings import NONE, RECORD_DTYPE
from tracer.schema import Kind
from tracer.topology import Group, Topology

LANE: Final = "host:unhooked"
FIRST_SEQ: Final = 1 << 40
"""Operations found here are numbered from this number on, by the backend's own count: it is the
same on every rank, and the hooks' numbers cannot collide with it."""

_DUMP_AFTER_CALLS: Final = 1000
"""Half of what the flight recorder holds by default."""

_DUMP_AFTER_NS: Final = 5_000_000_000
_KEPT_NS: Final = 60_000_000_000
"""Spans of hooked calls are kept for so long: a call may last from its entry on to its end."""

_NESTING: Final = 8
"""Calls of one group that may be open at once, in several threads."""

_SLACK_NS: Final = 2_000
"""The wall clock, which the flight recorder reads, and ours are read one after the other."""


@dataclass(slots=True)
class _Backend:
    """A process group, while it lives, and how many collectives its backend has counted."""

    process_group: weakref.ref[dist.ProcessGroup]
    ranks: tuple[int, ...]
    desc: str
    name: str
    before: int
    calls: int

    @property
    def counts(self) -> bool:
        """Whether its count can be compared: what other backends and mixtures count is unknown."""
        return self.name in ("gloo", "nccl")

    def count(self) -> int:
        """Operations since the recording began; on gloo messages are operations too."""
        group = self.process_group()
        if group is not None:
            self.calls = _count(group) or self.calls
        return self.calls - self.before


class Reconciliation:
    """Records the collectives that only the flight recorder saw, and counts what nobody saw."""

    covers = "collectives issued by C++: DistributedDataParallel, compiled code"

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Begin to compare; the training thread is never involved."""
        self._recorder = recorder
        self._topology = topology
        self._last_dump = recorder.clock()
        self._backends: dict[str, _Backend] = {}
        self._hooked: list[npt.NDArray[np.int64]] = []
        self._main_lane = recorder.lanes.intern("host:main")
        self._main_reached = 0
        self._pending: list[Entry] = []
        self._last_record = {
            source: held[-1].record if held else -1 for source, held in dump({}).items()
        }
        self._overrun = False
        self._found: Counter[tuple[int, ...]] = Counter()
        self._counted: dict[tuple[int, ...], int] = {}
        self._counted_at_dump = 0
        self._look_at_groups(before=_count)
        recorder.on_flush.append(self._flush)
        recorder.on_records.append(self._note)
        recorder.on_close.append(self._close)

    def uninstall(self) -> None:
        """Nothing to take out: no attribute was replaced."""

    def _flush(self) -> None:
        self._look_at_groups(before=lambda group: 0)
        self._settle(self._main_reached)
        # What the backends had counted at the last flush, the hooks have counted by now.
        differs, counted = self._differences(self._counted), sum(self._counted.values())
        self._counted = self._count()
        waited = self._recorder.clock() - self._last_dump
        due = counted - self._counted_at_dump >= _DUMP_AFTER_CALLS or waited > _DUMP_AFTER_NS
        if due and (self._must_look() or any(missing > 0 for missing in differs.values())):
            with self._recorder.device_lock:
                if not self._recorder.capturing:
                    self._take(counted)

    def _close(self) -> None:
        self._counted = self._count()
        if self._must_look() or any(self._differences(self._counted).values()):
            self._take(sum(self._counted.values()))
        self._settle(self._recorder.clock())
        if self._overrun:
            left = self._differences(self._counted).values()
            self._recorder.unseen = sum(missing for missing in left if missing > 0)

    def _must_look(self) -> bool:
        """Whether the count of some backend tells nothing, so that only looking helps."""
        return not all(backend.counts for backend in self._backends.values())

    def _count(self) -> dict[tuple[int, ...], int]:
        """Operations that the backends have counted, by the members of the group."""
        counted: Counter[tuple[int, ...]] = Counter()
        for backend in self._backends.values():
            if backend.counts:
                counted[backend.ranks] += backend.count()
        return dict(counted)

    def _differences(self, counted: dict[tuple[int, ...], int]) -> dict[tuple[int, ...], int]:
        """How many operations of each group are not recorded (less than 0: backends count a
        coalesced batch as one).
        """
        recorded = Counter(self._found)
        messages = {b.ranks for b in self._backends.values() if b.name == "gloo"}
        for group in self._named_groups():
            recorded[group.ranks] += group.calls + group.parts
            if group.ranks in messages:
                recorded[group.ranks] += group.sent
        return {ranks: calls - recorded[ranks] for ranks, calls in counted.items()}

    def _look_at_groups(self, *, before: Callable[[dist.ProcessGroup], int]) -> None:
        """Remember each process group while it lives: a dump also lists those that are gone."""
        if not (dist.is_available() and dist.is_initialized()):
            return
        for group, name in list(distributed_c10d._world.pg_names.items()):
            known = self._backends.get(name)
            if known is not None and known.process_group() is group:
                continue
            members = distributed_c10d._world.pg_group_ranks.get(group, {})
            first = before(group)
            self._backends[name] = _Backend(
                weakref.ref(group),
                tuple(sorted(members)),
                group.group_desc,
                dist.get_backend(group),
                first,
                first,
            )

    def _note(self, records: npt.NDArray[np.void]) -> None:
        """Remember the spans of hooked collectives, and how far the main thread has come."""
        main = records["start"][records["lane"] == self._main_lane]
        if len(main):
            self._main_reached = max(self._main_reached, int(main.max()))
        calls = records[(records["kind"] == int(Kind.COLLECTIVE)) & (records["seq"] < FIRST_SEQ)]
        if len(calls):
            ends = calls["start"] + calls["duration"]
            self._hooked.append(np.stack([calls["group"], calls["start"], ends]).astype(np.int64))

    def _named_groups(self) -> list[Group]:
        return list(self._topology.groups.values())

    def _take(self, counted: int) -> None:
        """Read the flight recorder; count what it has already forgotten."""
        self._last_dump, self._counted_at_dump = self._recorder.clock(), counted
        sizes = {name: len(backend.ranks) for name, backend in self._backends.items()}
        to_ours = self._recorder.clock() - time.time_ns()
        for source, entries in dump(sizes).items():
            last = self._last_record.get(source, -1)
            if entries and entries[0].record > last + 1:
                self._overrun = True
            for entry in entries:
                if entry.record > last and not entry.is_p2p:
                    self._pending.append(replace(entry, created=entry.created + to_ours))
            if entries:
                self._last_record[source] = entries[-1].record
        if not self._pending:
            self._overrun = True  # something was counted, and no recorder knows of it

    def _settle(self, reached: int) -> None:
        """Decide on the entries older than `reached`: hooked calls of that time are all known."""
        due: dict[tuple[int, ...], list[Entry]] = {}
        for entry in self._pending:
            backend = self._backends.get(entry.group_name)
            if entry.created < reached and backend is not None:
                due.setdefault(backend.ranks, []).append(entry)
        self._pending = [entry for entry in self._pending if entry.created >= reached]
        if due:
            spans = self._hooked_spans()
            for ranks, entries in due.items():
                hooked = _inside(np.array([e.created for e in entries]), spans.get(ranks))
                found = [e for e, is_hooked in zip(entries, hooked, strict=True) if not is_hooked]
                self._found[ranks] += len(found)
                rows = [row for row in map(self._row, found) if row is not None]
                self._recorder.add_late(np.array(rows, RECORD_DTYPE))
        self._forget(min((entry.created for entry in self._pending), default=reached))

    def _hooked_spans(self) -> dict[tuple[int, ...], npt.NDArray[np.int64]]:
        """By members of the group: start and end of each hooked call, by start."""
        if not self._hooked:
            return {}
        group, start, end = np.concatenate(self._hooked, axis=1)
        spans: dict[tuple[int, ...], npt.NDArray[np.int64]] = {}
        for known in self._named_groups():
            mine = group == self._recorder.groups.intern(known.name)
            both = [spans[known.ranks]] if known.ranks in spans else []
            both.append(np.stack([start[mine], end[mine]]))
            joined = np.concatenate(both, axis=1)
            spans[known.ranks] = joined[:, np.argsort(joined[0], kind="stable")]
        return spans

    def _row(self, entry: Entry) -> tuple[int, ...] | None:
        """The record of an entry that nobody hooked; None where nothing was to be recorded."""
        recorder, backend = self._recorder, self._backends.get(entry.group_name)
        moment = recorder.moment_of(entry.created)
        if moment is None or moment.paused or backend is None:
            return None
        group = self._topology.group(backend.ranks, backend.desc)
        group.index = recorder.groups.intern(group.name)
        dtype = NONE
        if entry.dtype is not None:
            dtype = recorder.dtypes.intern(entry.dtype)
        values = {
            "start": entry.created,
            "duration": 0,
            "step": moment.step,
            "lane": recorder.lanes.intern(LANE),
            "kind": int(Kind.COLLECTIVE),
            "is_operation": 1,
            "name": recorder.names.intern(entry.op),
            "group": group.index,
            "seq": FIRST_SEQ + entry.seq,
            "bytes": entry.bytes,
            "count": entry.elements,
            "correlation": recorder.next_correlation(),
            "dtype": dtype,
        }
        return tuple(values.get(field, NONE) for field in RECORD_DTYPE.names or ())

    def _forget(self, before: int) -> None:
        self._hooked = [calls for calls in self._hooked if int(calls[2].max()) >= before - _KEPT_NS]


def _inside(
    times: npt.NDArray[np.int64], spans: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.bool_]:
    """Which times lie in one of the spans (start and end, by start), with some slack."""
    inside = np.zeros(len(times), np.bool_)
    if spans is None or spans.shape[1] == 0:
        return inside
    before = np.searchsorted(spans[0], times + _SLACK_NS, "right") - 1
    for earlier in range(_NESTING):
        which = before - earlier
        inside |= (which >= 0) & (spans[1][np.maximum(which, 0)] + _SLACK_NS >= times)
    return inside


def _count(group: dist.ProcessGroup) -> int:
    """What the backend has counted; 0 where it does not count, or refuses since it is shut down."""
    with contextlib.suppress(RuntimeError):
        return int(group._get_sequence_number_for_group())  # type: ignore[attr-defined]
    return 0
