"""Find the collectives that no hook saw, and record them: nothing escapes in silence.

What C++ issues itself (the reducer of DDP, compiled code) passes no Python. The flight recorder
lists it, so its list is compared with what the hooks recorded: an entry that was made inside
the span of a hooked call is that call; every other one is recorded here, on the lane
`host:unhooked`, with the time when it was issued and no duration (the flight recorder has no
end on gloo). All of this happens on the writer thread, and only while a backend has counted
more collectives than the hooks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from collectors.flight_entries import Entry
from collectors.live.backends import Backend, Backends
from collectors.live.flight_recorder import dump
from tracer.clocks.wall import both_clocks
from tracer.recorder import Recorder
from tracer.rings import NONE, RECORD_DTYPE
from tracer.schema import Kind
from tracer.topology import Group, Topology

LANE: Final = "host:unhooked"
FIRST_SEQ: Final = 1 << 40
"""Operations found here are numbered from this number on, by the backend's own count: it is the
same on every rank, and the hooks' numbers cannot collide with it. Each further process group of
the same members begins 2^32 later."""

_DUMP_AFTER_CALLS: Final = 1000
"""Half of what the flight recorder holds by default."""

_DUMP_AFTER_NS: Final = 5_000_000_000
_KEPT_NS: Final = 60_000_000_000
"""Spans of hooked calls are kept for so long: a call may last from its entry on to its end."""

_NESTING: Final = 8
"""Calls of one group that may be open at once, in several threads."""

_SLACK_NS: Final = 2_000
"""The wall clock, which the flight recorder reads, and ours are read one after the other."""


class Reconciliation:
    """Records the collectives that only the flight recorder saw, and counts what nobody saw."""

    covers = "collectives issued by C++: DistributedDataParallel, compiled code"

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Begin to compare; the training thread comes by where it ends a process group only."""
        self._recorder = recorder
        self._topology = topology
        self._last_dump = recorder.clock()
        self._backends = Backends(recorder)
        self._hooked: list[npt.NDArray[np.int64]] = []
        self._main_lane = recorder.lanes.intern("host:main")
        self._main_reached = 0
        self._forgotten_until = 0
        self._pending: list[Entry] = []
        self._last_record = {
            source: held[-1].record if held else -1 for source, held in dump({}).items()
        }
        self._overrun = False
        self._found: Counter[tuple[int, ...]] = Counter()
        self._in_pauses: Counter[tuple[int, ...]] = Counter()
        self._recorded_calls: Counter[int] = Counter()
        self._counted: dict[tuple[int, ...], int] = {}
        self._counted_at_dump = 0
        recorder.on_flush.append(self._flush)
        recorder.on_records.append(self._note)
        recorder.on_close.append(self._close)
        self._backends.install()

    def uninstall(self) -> None:
        """Put back what tells of the end of a process group."""
        self._backends.uninstall()

    def _flush(self) -> None:
        self._backends.look()
        self._settle(self._main_reached)
        # What the backends had counted at the last flush, the hooks have counted by now.
        differs, counted = self._differences(self._counted), sum(self._counted.values())
        self._counted = self._backends.counted()
        waited = self._recorder.clock() - self._last_dump
        due = counted - self._counted_at_dump >= _DUMP_AFTER_CALLS or waited > _DUMP_AFTER_NS
        # Before the spans are forgotten that would tell which entries are hooked calls.
        at_last = waited > _KEPT_NS // 2 and any(differs.values())
        missing = any(number > 0 for number in differs.values())
        if due and (missing or at_last or not self._backends.all_count()):
            with self._recorder.device_lock:
                if not self._recorder.capturing:
                    self._take(counted)

    def _close(self) -> None:
        self._backends.look()
        self._counted = self._backends.counted()
        differs = any(self._differences(self._counted).values())
        self._take(sum(self._counted.values()))
        if not differs and self._backends.all_count():
            self._pending = [entry for entry in self._pending if self._backends.of(entry) is None]
        elif not self._pending:
            self._overrun = True  # something was counted, and no recorder knows of it
        self._settle(self._recorder.clock())
        if self._overrun:
            left = self._differences(self._counted).values()
            self._recorder.unseen += sum(missing for missing in left if missing > 0)

    def _differences(self, counted: dict[tuple[int, ...], int]) -> dict[tuple[int, ...], int]:
        """How many operations of each group are not recorded (less than 0: backends count a
        coalesced batch as one).
        """
        recorded, in_pauses = Counter(self._found), Counter(self._in_pauses)
        for group in self._named_groups():
            recorded[group.ranks] += group.calls + group.parts
            if group.ranks in self._backends.messages_count:
                recorded[group.ranks] += group.sent
            index = self._recorder.groups.intern(group.name)
            in_pauses[group.ranks] -= group.calls - self._recorded_calls[index]
        # What the hooks counted in a pause left no span: the entries beyond these had no hook.
        recorded += +in_pauses
        return {ranks: calls - recorded[ranks] for ranks, calls in counted.items()}

    def _note(self, records: npt.NDArray[np.void]) -> None:
        """Remember the spans of hooked collectives, and how far the main thread has come."""
        is_main = records["lane"] == self._main_lane
        reached = np.max(records["start"], where=is_main, initial=self._main_reached)
        self._main_reached = int(reached)
        is_call = (records["kind"] == int(Kind.COLLECTIVE)) & (records["seq"] < FIRST_SEQ)
        calls = np.flatnonzero(is_call)
        if len(calls):
            # Field by field: taking whole records takes as long as the rest of a flush.
            group, start, duration = (
                records[name][calls] for name in ("group", "start", "duration")
            )
            hooked = np.empty((3, len(calls)), np.int64)
            hooked[0], hooked[1] = group, start
            np.add(start, duration, out=hooked[2])
            self._hooked.append(hooked)
            # A span that the user calls a collective has no group: counting begins at NONE.
            for index, number in enumerate(np.bincount(group - NONE).tolist(), NONE):
                if number:
                    self._recorded_calls[index] += number

    def _named_groups(self) -> list[Group]:
        return list(self._topology.groups.values())

    def _take(self, counted: int) -> None:
        """Read the flight recorder; count what it has already forgotten."""
        self._last_dump, self._counted_at_dump = self._recorder.clock(), counted
        ours, wall = both_clocks(self._recorder.clock)
        for source, entries in dump(self._backends.sizes()).items():
            last = self._last_record.get(source, -1)
            if entries and entries[0].record > last + 1:
                self._overrun = True
            for entry in entries:
                created = entry.created + ours - wall
                # Older ones were hooked: the counts agreed when their spans were forgotten.
                if entry.record > last and not entry.is_p2p and created >= self._forgotten_until:
                    self._pending.append(replace(entry, created=created))
            if entries:
                self._last_record[source] = entries[-1].record

    def _settle(self, reached: int) -> None:
        """Decide on the entries older than `reached`: hooked calls of that time are all known."""
        due: dict[tuple[int, ...], list[Entry]] = {}
        for entry in self._pending:
            if entry.created < reached:
                backend = self._backends.of(entry)
                due.setdefault(backend.ranks if backend else (), []).append(entry)
        self._pending = [entry for entry in self._pending if entry.created >= reached]
        if due:
            spans = self._hooked_spans()
            for ranks, entries in due.items():
                hooked = _inside(np.array([e.created for e in entries]), spans.get(ranks))
                found = [e for e, is_hooked in zip(entries, hooked, strict=True) if not is_hooked]
                self._record(ranks, found)
        self._forget(min((entry.created for entry in self._pending), default=reached))

    def _record(self, ranks: tuple[int, ...], found: list[Entry]) -> None:
        """Record what nobody hooked, but for what was issued in a pause."""
        rows = []
        for entry in found:
            moment, backend = self._recorder.moment_of(entry.created), self._backends.of(entry)
            if moment is None:
                self._overrun = True  # so many steps ago that it is not known in which one
            elif moment.paused:
                self._in_pauses[ranks] += 1
            elif backend is None:
                self._recorder.unseen += 1
            else:
                self._found[ranks] += 1
                rows.append(self._row(entry, backend, moment.step))
        self._recorder.add_late(np.array(rows, RECORD_DTYPE))

    def _hooked_spans(self) -> dict[tuple[int, ...], npt.NDArray[np.int64]]:
        """By members of the group: start and end of each hooked call, by start.

        Those of all groups go by no members at all, for the entries of groups that are unknown.
        """
        if not self._hooked:
            return {}
        group, start, end = np.concatenate(self._hooked, axis=1)
        spans: dict[tuple[int, ...], npt.NDArray[np.int64]] = {
            (): np.stack([start, end])[:, np.argsort(start, kind="stable")]
        }
        for known in self._named_groups():
            mine = group == self._recorder.groups.intern(known.name)
            both = [spans[known.ranks]] if known.ranks in spans else []
            both.append(np.stack([start[mine], end[mine]]))
            joined = np.concatenate(both, axis=1)
            spans[known.ranks] = joined[:, np.argsort(joined[0], kind="stable")]
        return spans

    def _row(self, entry: Entry, backend: Backend, step: int) -> tuple[int, ...]:
        recorder = self._recorder
        group = self._topology.group(backend.ranks, backend.desc)
        group.index = recorder.groups.intern(group.name)
        dtype = NONE
        if entry.dtype is not None:
            dtype = recorder.dtypes.intern(entry.dtype)
        values = {
            "start": entry.created,
            "duration": 0,
            "step": step,
            "lane": recorder.lanes.intern(LANE),
            "kind": int(Kind.COLLECTIVE),
            "is_operation": 1,
            "name": recorder.names.intern(entry.op),
            "group": group.index,
            "seq": FIRST_SEQ + (backend.earlier << 32) + entry.seq,
            "bytes": entry.bytes,
            "count": entry.elements,
            "correlation": recorder.next_correlation(),
            "dtype": dtype,
        }
        return tuple(values.get(field, NONE) for field in RECORD_DTYPE.names or ())

    def _forget(self, before: int) -> None:
        self._forgotten_until = before - _KEPT_NS
        while self._hooked and int(self._hooked[0][2].max()) < self._forgotten_until:
            self._hooked.pop(0)  # in order but for some that overlap: those are kept a while longer
        self._backends.forget(self._forgotten_until)


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
