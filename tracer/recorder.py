"""The hot path: one event is two clock reads in the hook and one packed append here."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.arrays import word_array
from tracer.rings import (
    NONE,
    RECORD_BYTES,
    RING_CAPACITY,
    Lap,
    Operation,
    Ring,
    pack_event,
    pack_operation_event,
)
from tracer.windows import Window

_MOST_MOMENTS: Final = 1 << 12
_MOST_NAMES: Final = 1 << 16
_MOST_LANES: Final = 1 << 12
"""Each thread that records has a lane by its name, and a record two bytes for its number."""

_MOST_DTYPES: Final = 1 << 7
"""torch has about forty."""

OTHER: Final = "(other)"
"""What is recorded in place of a name when there are too many of them."""

_MOST_COUNTER_VALUES: Final = 1 << 16
"""Counter values held between two flushes; older ones are dropped beyond, and counted."""


class Names:
    """Interned strings of one column: the hot path carries small integers, the file words.

    There are `most` of them, so that names which count something up neither fill the memory of the
    training nor run over the column; all further ones are `other`.
    """

    def __init__(self, most: int = _MOST_NAMES, other: str = OTHER) -> None:
        self.words: list[str] = []
        self.lock = threading.Lock()
        self._index: dict[str, int] = {}
        self._most = most
        self._other = other
        self._array: pa.Array | None = None

    def intern(self, word: str) -> int:
        """The index of `word`, added if new. A hit is one dictionary look-up."""
        found = self._index.get(word)
        if found is not None:
            return found
        with self.lock:
            if word not in self._index:
                if len(self.words) >= self._most - 1:
                    word = self._other
                if word not in self._index:
                    self.words.append(word)
                    self._index[word] = len(self.words) - 1
            return self._index[word]

    def array(self) -> pa.Array:
        """All words so far as an Arrow array, for the writer thread alone: the same one until there
        is another word, so that Arrow sees without a look that a dictionary has not changed.
        """
        if self._array is None or len(self._array) != len(self.words):
            self._array = word_array(self.words.copy())
        return self._array


class DeviceMarks(Protocol):
    """What a hook tells of device time: where work and waits begin and end on their stream."""

    def mark(self) -> Any:
        """Where the current stream is now, or None."""

    def worked(
        self, begin: Any, kind: int, name: int, stage: int = NONE, microbatch: int = NONE
    ) -> None:
        """The work that began at the mark has been launched up to here."""

    def issued(self, begin: Any, kind: int, operation: Operation) -> None:
        """The stream came to this operation at the mark."""

    def waited(self, begin: Any, operations: tuple[Operation, ...]) -> None:
        """The stream waited for these operations from the mark up to here."""


class Moment(NamedTuple):
    """From `since` (ns) until the next moment this was the step, and whether it was paused."""

    since: int
    step: int
    paused: bool


_IF_THE_SYSTEM: Final = "see to the room and the rights there, or record into another directory"
_IF_OURS: Final = (
    "if it comes again, report this line, and train with RANKSCOPE_DISABLE=1 until it is mended"
)


class Recorder:
    """Where hooks put events, and the context (step, stage, microbatch) that they share.

    `active` is the only switch that a hook reads: while it is False the hooks pass on. While
    `paused` they go on counting (collectives keep their numbers) but nothing is recorded.
    `step`, `stage` and `microbatch` are the ones at work in this process now, `NONE` outside.
    """

    # Slots, since the hot path reads five attributes per event: 5 ns each instead of 20.
    __slots__ = (
        "_dropped_by_ended_threads",
        "_first_fault",
        "_late",
        "_ring_capacity",
        "_rings",
        "active",
        "capturing",
        "clock",
        "clock_samples",
        "counter_values",
        "counter_values_offered",
        "describe_schedule",
        "device",
        "device_lock",
        "dtypes",
        "failure",
        "groups",
        "history",
        "identity",
        "kernels",
        "lanes",
        "local",
        "message_tags",
        "microbatch",
        "names",
        "next_correlation",
        "on_close",
        "on_compute",
        "on_flush",
        "on_optimizer",
        "on_records",
        "on_step",
        "paused",
        "samplers",
        "stage",
        "step",
        "unseen",
        "working",
    )

    def __init__(
        self,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        ring_capacity: int = RING_CAPACITY,
        kernels: Window | None = None,
    ) -> None:
        self.clock = clock
        self.kernels = kernels
        """When the user wants kernel windows; read by the collector that opens them."""
        self.active = False
        self.paused = False
        self.step = 0
        self.stage = NONE
        self.microbatch = NONE
        self.working = 0
        """Pieces of work (actions, training steps) at hand: nothing inside them is work again."""
        self.message_tags: dict[int, tuple[int, int]] = {}
        """(stage, microbatch) of a tensor about to be sent or received, by its id."""
        self.device: DeviceMarks | None = None
        """Marks points on device streams; None where there is no device."""
        self.capturing = 0
        """Captures of CUDA graphs at work: other threads must not ask the device then."""
        self.device_lock = threading.Lock()
        """Held by background work that asks the device; a capture begins when it is free."""
        self.failure: str | None = None
        self.identity: tuple[int, str] | None = None
        """The rank and the file that it records into, for what is said of them."""
        self._first_fault = threading.Lock()
        self.on_compute: Callable[[], None] | None = None
        """Called when a step's first work may begin; the session ends automatic steps by it."""
        self.on_optimizer: Callable[[], None] | None = None
        """Called after each optimizer step."""
        self.on_step: list[Callable[[int], None]] = []
        """Called on the training thread with the number of each step that begins."""
        self.on_flush: list[Callable[[], None]] = []
        """Called on the writer thread before each flush: the place for work off the hot path."""
        self.on_records: list[Callable[[npt.NDArray[np.void]], None]] = []
        """Shown on the writer thread all records that go to the file."""
        self.on_close: list[Callable[[], None]] = []
        """Called on the writer thread when all hooks are out and all records were shown."""
        self.history: deque[Moment] = deque(maxlen=_MOST_MOMENTS)
        """When which step began, and when recording was paused, for what is recorded late."""
        self.samplers: list[Callable[[], Mapping[str, float]]] = []
        """Asked on the writer thread at each flush for counters (name/unit → value)."""
        self.describe_schedule: Callable[[Any], None] = lambda schedule: None
        """Reads the plan of a pipeline schedule; set by the collector that knows schedules."""
        self.names = Names()
        self.lanes = Names(_MOST_LANES, f"host:{OTHER}")
        self.groups = Names()
        self.dtypes = Names(_MOST_DTYPES)
        self.clock_samples: deque[tuple[int, str, int, int]] = deque(maxlen=_MOST_MOMENTS)
        """Comparisons of `clock` with another, as rows of `CLOCK_SCHEMA`, for the writer."""
        self.counter_values: deque[tuple[int, str, float]] = deque(maxlen=_MOST_COUNTER_VALUES)
        self.counter_values_offered = 0
        self._ring_capacity = ring_capacity
        self.unseen = 0
        """Collectives that are known to have been issued, and of which nothing else is known."""
        self._rings: list[Ring] = []
        self._dropped_by_ended_threads = 0
        self._late: deque[npt.NDArray[np.void]] = deque()
        self.local = threading.local()
        """Of each thread that has recorded: `ring`, and `lap`, on which it is there."""
        self.next_correlation: Callable[[], int] = itertools.count(1).__next__
        """A number that no other operation of this process has, whatever thread asks."""

    def emit(
        self,
        kind: int,
        name: int,
        start: int,
        duration: int,
        stage: int = NONE,
        microbatch: int = NONE,
    ) -> None:
        """Append one event to the calling thread's lane (times in ns; name already interned)."""
        if self.paused or not self.active:
            return
        try:
            lap = self.local.lap
        except AttributeError:
            lap = self.add_ring()
        at = lap.at
        if at == lap.end:
            lap, at = self.next_lap(), 0
        pack_event(lap.data, at, start, duration, self.step, kind, name, stage, microbatch)
        lap.at = at + RECORD_BYTES

    def emit_operation(self, kind: int, start: int, duration: int, operation: Operation) -> None:
        """Append the call, wait or transfer of a communication operation (times in ns)."""
        if self.paused or not self.active:
            return
        try:
            lap = self.local.lap
        except AttributeError:
            lap = self.add_ring()
        at = lap.at
        if at == lap.end:
            lap, at = self.next_lap(), 0
        pack_operation_event(lap.data, at, start, duration, self.step, kind, 1, operation)
        lap.at = at + RECORD_BYTES

    def add_late(self, records: npt.NDArray[np.void]) -> None:
        """Add records (of `RECORD_DTYPE`) that were made off the hot path, from any thread.

        Their step is their own matter: `moment_of` tells it. Nothing is dropped on this way.
        """
        if len(records):
            self._late.append(records)

    def turn(self, now: int) -> None:
        """Note that from `now` on (ns) the step or the pausing is another."""
        self.history.append(Moment(now, self.step, self.paused))

    def moment_of(self, time_ns: int) -> Moment | None:
        """The step and the pausing at an earlier time; None before the recording began."""
        moments = list(self.history)
        found = bisect.bisect_right(moments, time_ns, key=lambda moment: moment.since) - 1
        return moments[found] if found >= 0 else None

    def count(self, name: str, value: float) -> None:
        """Keep a value of a counter (`loss`, or with its unit `throughput/tokens_per_s`)."""
        if self.paused or not self.active:
            return
        self.counter_values.append((self.clock(), name, value))
        self.counter_values_offered += 1

    def fault(self, error: BaseException) -> None:
        """Stop recording for good because of an error of ours; the training goes on.

        What was recorded so far is kept. Said once, on standard error.
        """
        self.active = False
        # Never given back, and taken without waiting: of several threads one is the first.
        if not self._first_fault.acquire(blocking=False):
            return
        self.failure = name = type(error).__name__
        try:
            self.failure = f"{name}: {error}"
            where = "" if self.identity is None else " on rank {} ({})".format(*self.identity)
            mend = _IF_THE_SYSTEM if isinstance(error, OSError) else _IF_OURS
            warn(
                f"tracing stopped{where} by an internal error ({self.failure}); "
                f"the training goes on and what was recorded is kept; {mend}"
            )
        except Exception:  # of the error's own text, or of standard error
            self.failure = name

    def forget_locks(self) -> None:
        """In a forked child: what another thread held at the fork would never be given back."""
        self.device_lock = threading.Lock()
        for names in (self.names, self.lanes, self.groups, self.dtypes):
            names.lock = threading.Lock()

    @property
    def dropped(self) -> int:
        """Events lost so far because a ring ran over."""
        return self._dropped_by_ended_threads + sum(ring.dropped for ring in list(self._rings))

    @property
    def emitted(self) -> int:
        """Events appended so far by threads that are alive."""
        return sum(ring.head for ring in list(self._rings))

    def drain(self) -> list[npt.NDArray[np.void]]:
        """All complete records of all threads, for the writer thread alone."""
        taken = []
        for ring in list(self._rings):
            ended = not ring.owner.is_alive()
            taken += ring.drain()
            if ended:
                self._dropped_by_ended_threads += ring.dropped
                self._rings.remove(ring)
        taken += [self._late.popleft() for _ in range(len(self._late))]
        return taken

    def add_ring(self) -> Lap:
        """Make the calling thread's ring, at its first event; its first lap."""
        thread = threading.current_thread()
        name = "main" if thread is threading.main_thread() else thread.name
        ring = Ring(self._ring_capacity, self.lanes.intern(f"host:{name}"))
        self._rings.append(ring)
        self.local.ring, self.local.lap = ring, ring.lap
        return ring.lap

    def next_lap(self) -> Lap:
        """The calling thread has come to the end of its ring and begins it again."""
        lap: Lap = self.local.ring.next_lap()
        self.local.lap = lap
        return lap


def warn(text: str) -> None:
    """Say something to the user on standard error, which may be closed by now."""
    with contextlib.suppress(Exception):
        print(f"rankscope: {text}", file=sys.stderr)
