"""The hot path: one event is two clock reads in the hook and one packed append here.

Each thread owns a ring of fixed-size records. The thread that owns it only writes; the writer
thread only reads. No lock is needed: the ring's `head` grows after the record is complete, and
a reader that was overtaken discards what was overwritten under it and counts it as dropped
(oldest first). This rests on the interpreter lock: on a free-threaded build the recorder
refuses to start.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tracer.schema import Kind

NONE: Final = -1
"""Stands for null in a packed record: no column has negative values of its own."""

RECORD_DTYPE: Final = np.dtype(
    [
        ("start", "<i8"),
        ("duration", "<i8"),
        ("seq", "<i8"),
        ("bytes", "<i8"),
        ("count", "<i8"),
        ("correlation", "<i8"),
        ("flops", "<i8"),
        ("name", "<i4"),
        ("step", "<i4"),
        ("stage", "<i4"),
        ("microbatch", "<i4"),
        ("peer", "<i4"),
        ("group", "<i4"),
        ("lane", "<i2"),
        ("kind", "<i1"),
        ("dtype", "<i1"),
    ]
)
_PACKING = struct.Struct("<qqqqqqqiiiiiihbb")
_RECORD_BYTES = _PACKING.size
_pack_into = _PACKING.pack_into

RING_CAPACITY: Final = 1 << 16
"""Records per thread between two flushes: 65,536 events, 5.8 MB."""

_CHUNK = 4096
"""Records copied at once while draining: about 350 kB, some tens of microseconds under the
interpreter lock, so that the trainer is never held up for longer."""


Operation: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int]
"""name, stage, microbatch, group, seq, peer, bytes, count, dtype, correlation: what the events of
one operation have in common. A plain tuple, since one is made in every call that is hooked."""


class Names:
    """Interned strings of one column: the hot path carries small integers, the file words."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._index: dict[str, int] = {}
        self._lock = threading.Lock()

    def intern(self, word: str) -> int:
        """The index of `word`, added if new. A hit is one dictionary look-up."""
        found = self._index.get(word)
        if found is not None:
            return found
        with self._lock:
            if word not in self._index:
                self.words.append(word)
                self._index[word] = len(self.words) - 1
            return self._index[word]


class Ring:
    """The records of one thread: written by it alone, read by the writer thread alone."""

    __slots__ = ("capacity", "data", "dropped", "head", "lane", "mask", "owner", "tail")

    def __init__(self, capacity: int, lane: int) -> None:
        if capacity & (capacity - 1):
            raise ValueError(f"ring capacity {capacity} is not a power of two")
        self.capacity = capacity
        self.mask = capacity - 1
        self.data = bytearray(capacity * _RECORD_BYTES)
        self.lane = lane
        self.owner = threading.current_thread()
        self.head = 0
        self.tail = 0
        self.dropped = 0

    def drain(self) -> list[npt.NDArray[np.void]]:
        """Take what is complete, as arrays of `RECORD_DTYPE`; count what was overwritten."""
        taken: list[npt.NDArray[np.void]] = []
        head = self.head
        while self.tail < head:
            self._skip_overwritten()
            begin = self.tail & self.mask
            length = min(head - self.tail, self.capacity - begin, _CHUNK)
            if length <= 0:
                break
            copied = bytes(
                memoryview(self.data)[begin * _RECORD_BYTES : (begin + length) * _RECORD_BYTES]
            )
            overtaken = self._overwritten()
            records = np.frombuffer(copied, dtype=RECORD_DTYPE)
            if overtaken > 0:
                lost = min(overtaken, length)
                self.dropped += lost
                records = records[lost:]
            self.tail += length
            if len(records):
                taken.append(records)
        return taken

    def _skip_overwritten(self) -> None:
        behind = self._overwritten()
        if behind > 0:
            self.dropped += behind
            self.tail += behind

    def _overwritten(self) -> int:
        """How many records from `tail` on may be gone (0 or less: none).

        One slot less than the capacity counts as safe: the next record may be in its slot
        already while `head` does not tell so yet.
        """
        return self.head - (self.capacity - 1) - self.tail


class Recorder:
    """Where hooks put events, and the context (step, stage, microbatch) that they share.

    `active` is the only switch that a hook reads: while it is False nothing is recorded.
    `step`, `stage` and `microbatch` are the ones at work in this process now, `NONE` outside.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        ring_capacity: int = RING_CAPACITY,
    ) -> None:
        self.clock = clock
        self.active = False
        self.step = 0
        self.stage = NONE
        self.microbatch = NONE
        self.message_tags: dict[int, tuple[int, int]] = {}
        """(stage, microbatch) of a tensor about to be sent or received, by its id."""
        self.failure: str | None = None
        self.on_compute: Callable[[], None] | None = None
        """Called when a step's first work may begin; the session ends automatic steps by it."""
        self.on_optimizer: Callable[[], None] | None = None
        """Called after each optimizer step."""
        self.describe_schedule: Callable[[Any], None] = lambda schedule: None
        """Reads the plan of a pipeline schedule; set by the collector that knows schedules."""
        self.names = Names()
        self.lanes = Names()
        self.groups = Names()
        self.dtypes = Names()
        self._ring_capacity = ring_capacity
        self._rings: list[Ring] = []
        self._dropped_by_ended_threads = 0
        self._local = threading.local()
        self.next_correlation: Callable[[], int] = itertools.count(1).__next__
        """A number that no other operation of this process has, whatever thread asks."""

    def emit(
        self,
        kind: int,
        name: int,
        start: int,
        duration: int,
        *,
        stage: int = NONE,
        microbatch: int = NONE,
        group: int = NONE,
        seq: int = NONE,
        peer: int = NONE,
        bytes: int = NONE,
        count: int = NONE,
        dtype: int = NONE,
        correlation: int = NONE,
        flops: int = NONE,
        lane: int = NONE,
        step: int = NONE,
    ) -> None:
        """Append one event (times in ns; names, groups, dtypes and lanes already interned).

        Without `lane` it lands on the calling thread's own lane, without `step` in the
        current step.
        """
        if not self.active:
            return
        try:
            ring = self._local.ring
        except AttributeError:
            ring = self._add_ring()
        head = ring.head
        _pack_into(
            ring.data,
            (head & ring.mask) * _RECORD_BYTES,
            start,
            duration,
            seq,
            bytes,
            count,
            correlation,
            flops,
            name,
            self.step if step == NONE else step,
            stage,
            microbatch,
            peer,
            group,
            ring.lane if lane == NONE else lane,
            kind,
            dtype,
        )
        ring.head = head + 1

    def emit_operation(self, kind: int, start: int, duration: int, operation: Operation) -> None:
        """Append the call, wait or transfer of a communication operation (times in ns).

        The same as `emit` with those fields, in half the time: operations are what a training
        has most of.
        """
        if not self.active:
            return
        try:
            ring = self._local.ring
        except AttributeError:
            ring = self._add_ring()
        name, stage, microbatch, group, seq, peer, size, count, dtype, correlation = operation
        head = ring.head
        _pack_into(
            ring.data,
            (head & ring.mask) * _RECORD_BYTES,
            start,
            duration,
            seq,
            size,
            count,
            correlation,
            NONE,
            name,
            self.step,
            stage,
            microbatch,
            peer,
            group,
            ring.lane,
            kind,
            dtype,
        )
        ring.head = head + 1

    def fault(self, error: BaseException) -> None:
        """Stop recording for good because of an error of ours; the training goes on.

        What was recorded so far is kept. Said once, on standard error.
        """
        self.active = False
        if self.failure is not None:
            return
        self.failure = f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):
            print(
                f"rankscope: tracing stopped by an internal error ({self.failure}); "
                "the training goes on and what was recorded is kept",
                file=sys.stderr,
            )

    def span(self, kind: Kind, name: str) -> Span:
        """A `with` block that records itself, also when the block raises."""
        return Span(self, kind, self.names.intern(name))

    @property
    def dropped(self) -> int:
        """Events lost so far because a ring ran over."""
        return self._dropped_by_ended_threads + sum(ring.dropped for ring in list(self._rings))

    def drain(self) -> list[npt.NDArray[np.void]]:
        """All complete records of all threads, for the writer thread alone."""
        taken = []
        for ring in list(self._rings):
            ended = not ring.owner.is_alive()
            taken += ring.drain()
            if ended:
                self._dropped_by_ended_threads += ring.dropped
                self._rings.remove(ring)
        return taken

    def _add_ring(self) -> Ring:
        thread = threading.current_thread()
        name = "main" if thread is threading.main_thread() else thread.name
        ring = Ring(self._ring_capacity, self.lanes.intern(f"host:{name}"))
        self._rings.append(ring)
        self._local.ring = ring
        return ring


class Span:
    """A span that closes when its `with` block ends, also by an exception."""

    __slots__ = ("_kind", "_name", "_recorder", "_start")

    def __init__(self, recorder: Recorder, kind: Kind, name: int) -> None:
        self._recorder = recorder
        self._kind = int(kind)
        self._name = name
        self._start = 0

    def __enter__(self) -> Span:
        self._start = self._recorder.clock()
        return self

    def __exit__(self, *exc_info: object) -> None:
        recorder = self._recorder
        recorder.emit(
            self._kind,
            self._name,
            self._start,
            recorder.clock() - self._start,
            stage=recorder.stage,
            microbatch=recorder.microbatch,
        )
