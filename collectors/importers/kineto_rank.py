"""One rank's events of a Kineto file → rows of our format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa

from collectors.importers.growing_columns import Spans
from collectors.importers.imported_run import ImportedRank
from collectors.importers.kineto_columns import NONE, Ints
from collectors.importers.kineto_communication import P2P, operations_of
from collectors.importers.kineto_events import KinetoEvents
from collectors.importers.kineto_labels import (
    KINDS,
    DeviceWork,
    Label,
    Receives,
    Work,
    backwards,
    column,
    has_stages,
    labels,
    launched_at,
    outermost,
    tag_messages,
)
from tracer.arrays import number_array, word_array
from tracer.schema import KERNELS, LAUNCHES, OPERATORS

_ROWS: Final = 1 << 14
"""Of a batch, as the recorder's usual ones have; more take more memory and are no faster."""
_THREAD: Final = re.compile(r"thread (\d+) \((.*)\)")
_SPARSE: Final = 4
"""Numbers that are spread so many times further than there are of them are sorted."""
_FIRST_LAUNCH: Final = 1 << 32
"""Correlations of launches and their kernels begin here, those of operations at 0."""


class RankRows:
    """Writes one file's events to a rank.

    Attributes:
        actions: the pipeline actions of one step in their order, as `0F3`; empty without labels.
        operations: all communication.
    """

    def __init__(
        self,
        rank: ImportedRank,
        events: KinetoEvents,
        groups: dict[str, tuple[int, ...]],
        *,
        operators: str,
        launches: bool,
        first_correlation: int,
    ) -> None:
        self.actions: list[str] = []
        self._rank = rank
        self._events = events
        self._launches = launches
        self._main = _main_thread(events)
        self._windows = _windows(events)
        self._lanes = [self._thread_name(tid) for tid in events.tids.words]
        self._first_correlation = first_correlation
        outer = outermost(events.operators)
        self._host_rows = np.ones_like(outer) if operators == "all" else outer
        if operators == "none":
            self._host_rows = np.zeros_like(outer)
        self._outer = outer
        own_stage = rank.topology.coordinates.get("pp", 0 if not groups else None)
        self._labels = list(labels(events, own_stage))
        if not has_stages(self._labels) and any(x.kind == "forward" for x in self._labels):
            self._labels += backwards(events, outer)
        self.operations = operations_of(events, rank.topology, groups, self._step_at)
        self._launched = launched_at(events.kernels, events.launches)
        self._of_kernels: dict[str, Ints] = {}  # stage and microbatch, where labels say them

    def write(self) -> None:
        """Write everything."""
        for label in self._labels:
            if label.stage is not None and label.kind in KINDS.values():
                self._rank.topology.note_stage(label.stage, self._pipeline_ranks())
        receives = tag_messages(self._labels, self.operations)
        self._write_steps()
        for label in sorted(self._labels, key=lambda label: label.start):
            self._write_label(label, receives)
        self._write_operators()
        self._write_kernels()
        self._write_operations()
        memory = np.asarray(self._events.memory, np.int64).reshape(-1, 3)
        for ts, allocated, reserved in memory.tolist():
            if allocated >= 0:
                self._rank.count(ts, "memory.allocated/bytes", allocated)
            if reserved >= 0:
                self._rank.count(ts, "memory.reserved/bytes", reserved)

    @property
    def has_device(self) -> bool:
        """Whether any device worked."""
        return len(self._events.kernels) > 0

    def _pipeline_ranks(self) -> Sequence[int]:
        topology = self._rank.topology
        named = [group.ranks for group in topology.groups.values() if group.dim == "pp"]
        return named[0] if named else range(topology.world_size)

    # --- steps

    def _step_at(self, times: Ints) -> Ints:
        """The step in which each time of the host lies; -1 outside of all steps."""
        numbers, begins, ends = self._windows
        if not len(numbers):
            return np.full(len(times), -1, np.int64)
        at = np.searchsorted(begins, times, side="right") - 1
        inside = (at >= 0) & (times < ends[at])
        return np.where(inside, numbers[at], -1)

    def _write_steps(self) -> None:
        for number, begin, end in zip(*map(np.ndarray.tolist, self._windows), strict=True):
            self._rank.add(
                start=begin, duration=end - begin, kind="step", name="step", lane="host:main",
                step=number,
            )  # fmt: skip

    # --- labels

    def _write_label(self, label: Label, receives: Receives) -> None:
        kind, start, end = label.kind, label.start, label.end
        if kind[:5] in ("SEND_", "RECV_"):
            kind = "user"
        elif kind in KINDS.values():
            worked = self._work.inside(label)
            if worked is not None:
                self._wait_before(label, worked[0], receives)
                start, end = worked
        step = self._one_step(start)
        known = {
            "kind": kind, "name": label.name, "step": step, "stage": label.stage,
            "microbatch": label.microbatch,
        }  # fmt: skip
        self._rank.add(start=start, duration=end - start, lane=self._lane(label.thread), **known)
        if kind in (*KINDS.values(), "optimizer") and self.has_device:
            self._write_on_device(label, known)
        if label.stage is not None and kind in KINDS.values() and step == self._first_step():
            letter = next(letter for letter, name in KINDS.items() if name == kind)
            self.actions.append(f"{label.stage}{letter}{label.microbatch}")

    def _wait_before(self, label: Label, begin: int, receives: Receives) -> None:
        """An action without a device first waits for its message: until its first operator."""
        letter = next(letter for letter, name in KINDS.items() if name == label.kind)
        found = self.operations
        for message in receives.get((letter, label.stage, label.microbatch), []):
            since = max(label.start, int(found.start[message] + found.duration[message]))
            if found.wait[message] == NONE and since < begin and not self.has_device:
                found.wait_start[message], found.wait[message] = since, begin - since

    def _write_on_device(self, label: Label, known: dict[str, Any]) -> None:
        """The same as the device carried it out: from the first kernel launched in it to the last,
        on the stream that computes most.
        """
        rows = self._device_work.inside(label)
        if len(rows):
            lane = f"device:{self._stream_name(self._device_work.stream)}"
            start, end = self._device_work.extent(rows)
            self._rank.add(start=start, duration=end - start, lane=lane, **known)
            if label.stage is not None and label.microbatch is not None:
                if not self._of_kernels:
                    nothing = np.full(len(self._launched), NONE, np.int64)
                    self._of_kernels = {"stage": nothing, "microbatch": nothing.copy()}
                self._of_kernels["stage"][rows] = label.stage
                self._of_kernels["microbatch"][rows] = label.microbatch

    @cached_property
    def _work(self) -> Work:
        return Work(self._events, self._outer)

    @cached_property
    def _device_work(self) -> DeviceWork:
        return DeviceWork(self._events, self._launched)

    # --- kernels and operators

    def _write_operators(self) -> None:
        spans, rows = self._events.operators, np.flatnonzero(self._host_rows)
        lanes = [f"{lane}{OPERATORS}" for lane in self._lanes]
        self._write_spans(spans, rows, lanes, self._step_at(column(spans, "start")))
        if self._launches:
            launches = self._events.launches
            keys = column(launches, "key")
            self._write_spans(
                launches,
                np.arange(len(launches)),
                [f"{lane}{LAUNCHES}" for lane in self._lanes],
                self._step_at(column(launches, "start")),
                correlation=np.where(keys >= 0, keys % _FIRST_LAUNCH + _FIRST_LAUNCH, -1),
            )

    def _write_kernels(self) -> None:
        kernels = self._events.kernels
        correlation = np.full(len(kernels), -1, np.int64)
        if self._launches:
            keys = column(kernels, "key")
            correlation = np.where(keys >= 0, keys % _FIRST_LAUNCH + _FIRST_LAUNCH, -1)
        correlation[self.operations.kernels] = self._first_correlation + self.operations.of_kernels
        self._write_spans(
            kernels,
            np.arange(len(kernels)),
            [
                f"device:{self._stream_name(lane)}{KERNELS}"
                for lane in range(len(self._events.streams.words))
            ],
            self._step_at(self._launched),
            correlation=correlation,
            **self._of_kernels,
        )

    def _write_spans(
        self, spans: Spans, rows: Ints, lanes: list[str], steps: Ints, **more: Ints
    ) -> None:
        """Rows of kind `kernel`; -1 is null in `steps` and `more`."""
        start, duration = column(spans, "start"), column(spans, "duration")
        name, lane = column(spans, "name"), column(spans, "lane")
        for low in range(0, len(rows), _ROWS):
            part = rows[low : low + _ROWS]
            columns = {
                "start": start[part],
                "duration": duration[part],
                "kind": _words(np.zeros(len(part), np.int64), ["kernel"]),
                "name": _words(name[part], self._events.names.words),
                "lane": _words(lane[part], lanes),
                "step": _nullable(steps[part]),
            }
            columns |= {name: _nullable(values[part]) for name, values in more.items()}
            self._rank.write(columns)

    # --- communication

    def _write_operations(self) -> None:
        """Of each its call, the wait for it, and what carries it out, if there are such."""
        found, described = self.operations, self.operations.described
        waited, carried = np.flatnonzero(found.wait != NONE), np.flatnonzero(found.lane != NONE)
        rows = np.concatenate([np.arange(len(found)), waited, carried])
        part = np.repeat([0, 1, 2], [len(found), len(waited), len(carried)])
        start = np.concatenate([found.start, found.wait_start[waited], found.begin[carried]])
        length = (found.end - found.begin)[carried]
        duration = np.concatenate([found.duration, found.wait[waited], length])
        kinds = [*P2P, "collective", "wait"]
        kind = found.column(lambda one: P2P.index(one.op) if one.op in P2P else len(P2P))[rows]
        kind[part == 1] = len(kinds) - 1
        threads, streams = len(self._lanes), len(self._events.streams.words)
        lanes = [*map(self._lane, range(threads)), "host:main"]
        lanes += [f"device:{self._stream_name(n)} communication" for n in range(streams)]
        lane = np.where(found.thread >= 0, found.thread, threads)[rows]
        lane[part == 2] = threads + 1 + found.lane[carried]
        order = np.lexsort((part, rows))
        # Once for all batches: there may be as many descriptions as operations.
        words = {
            "name": _numbered([one.op for one in described]),
            "group": _numbered([one.group for one in described]),
            "dtype": _numbered([one.dtype for one in described]),
        }
        numbers = {name: found.column(attrgetter(name)) for name in ("peer", "bytes", "count")} | {
            name: getattr(found, name) for name in ("seq", "step", "stage", "microbatch")
        }
        for low in range(0, len(order), _ROWS):
            at = order[low : low + _ROWS]
            of = rows[at]
            what = found.what[of]
            self._rank.write(
                {
                    "start": start[at],
                    "duration": duration[at],
                    "kind": _words(kind[at], kinds),
                    "lane": _words(lane[at], lanes),
                    "correlation": self._first_correlation + of,
                    **{
                        name: _words(of_each[what], distinct)
                        for name, (of_each, distinct) in words.items()
                    },
                    **{name: _nullable(values[of]) for name, values in numbers.items()},
                }
            )

    # --- names

    def _lane(self, thread: int) -> str:
        return self._lanes[thread] if 0 <= thread < len(self._lanes) else "host:main"

    def _thread_name(self, tid: int) -> str:
        if tid == self._main:
            return "host:main"
        named = _THREAD.fullmatch(self._events.threads.get(tid, ""))
        return f"host:{named[2]} {tid}" if named and named[2] != "python" else f"host:{tid}"

    def _stream_name(self, lane: int) -> str:
        device, stream = self._events.streams.words[lane]
        several = len({device for device, _ in self._events.streams.words}) > 1
        return f"{device}.{stream}" if several else str(stream)

    def _one_step(self, time: int) -> int | None:
        step = int(self._step_at(np.array([time], np.int64))[0])
        return step if step >= 0 else None

    def _first_step(self) -> int | None:
        return int(self._windows[0][0]) if len(self._windows[0]) else None


def _main_thread(events: KinetoEvents) -> int:
    """The thread id of the steps, else the one with most operators."""
    lanes = [thread for *_, thread in events.steps]
    if not lanes and len(events.operators):
        lanes = [int(np.argmax(np.bincount(column(events.operators, "lane"))))]
    return int(events.tids.words[lanes[0]]) if lanes else -1


def _windows(events: KinetoEvents) -> tuple[Ints, Ints, Ints]:
    """Number, begin and end of each step; one lasts until the next one's begin. Without any, the
    whole recording is step 0.
    """
    steps = sorted(
        {number: (begin, number, length) for number, begin, length, _ in events.steps}.values()
    )
    if not steps:
        spans = (events.operators, events.kernels, events.annotations)
        starts = [int(column(s, "start").min()) for s in spans if len(s)]
        ends = [int((column(s, "start") + column(s, "duration")).max()) for s in spans if len(s)]
        steps = [(min(starts), 0, max(ends) - min(starts))] if starts else []
    begins = np.array([begin for begin, _, _ in steps], np.int64)
    numbers = np.array([number for _, number, _ in steps], np.int64)
    ends_ = begins + np.array([length for _, _, length in steps], np.int64)
    follows = np.diff(numbers) == 1
    ends_[:-1] = np.where(follows, begins[1:], np.minimum(ends_[:-1], begins[1:]))
    return numbers, begins, ends_


def _numbered(words: Sequence[str | None]) -> tuple[Ints, list[str | None]]:
    """The number of each among those that differ, in the order of their first use, and these."""
    distinct = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return np.array([distinct[word] for word in words], np.int64), list(distinct)


def _words(numbers: Ints, words: Sequence[str | None]) -> pa.DictionaryArray:
    """The words of a batch by number, with no others in the dictionary; None is null. Others are
    not looked at: of many batches there may be as many words as rows.
    """
    used, places = _distinct(numbers)
    chosen = [words[number] for number in used.tolist()]
    is_word = np.array([word is not None for word in chosen], np.bool_)
    valid = is_word.take(places)
    dictionary = word_array([word for word in chosen if word is not None])
    indices = (np.cumsum(is_word) - 1).astype(np.int32).take(places)
    return pa.DictionaryArray.from_arrays(
        number_array(indices, None if valid.all() else valid), dictionary
    )


def _distinct(numbers: Ints) -> tuple[Ints, Ints]:
    """The different numbers, the least one first, and the place of each among them: counted where
    they lie close together, which is faster than sorting them.
    """
    least = int(numbers.min()) if len(numbers) else 0
    if len(numbers) and int(numbers.max()) - least > _SPARSE * len(numbers):
        return np.unique(numbers, return_inverse=True)
    is_used = np.bincount(numbers - least) > 0
    return np.flatnonzero(is_used) + least, (np.cumsum(is_used) - 1).take(numbers - least)


def _nullable(values: Ints) -> pa.Array:
    return number_array(values, values >= 0)
