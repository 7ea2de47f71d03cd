"""The black box: the last steps, held in memory, written only when something happens.

The writer thread gives it what it drained instead of writing it, and asks it at each flush whether
there is reason to write: a slow step, no progress, a signal, an exception, a call. The hot path
knows nothing of it. What it releases is appended to the ordinary files, so that a run directory
with gaps comes about, which every reader knows how to read.
"""

from __future__ import annotations

import faulthandler
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.recorder import Recorder, warn
from tracer.rings import NONE, RECORD_DTYPE
from tracer.schema import Kind, stacks_file

Records = npt.NDArray[np.void]

MARK: Final = "black box: "
"""Marker events whose names begin so say why what lies before them was written."""

LANE: Final = "host:black box"
MOST_BYTES: Final = 256 << 20
"""What is held at most, whatever the number of steps: 3 million events."""

_MOST_COUNTER_BATCHES: Final = 600
_CALLS: Final = (int(Kind.COLLECTIVE), int(Kind.SEND), int(Kind.RECV))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How much to hold, and what to write it for; a call, an exception, a signal always do.

    `keep_last` steps; a step longer than `slow_step_s` (None: none is); no new event and no new
    step for `hang_s`.
    """

    keep_last: int
    slow_step_s: float | None
    hang_s: float


class BlackBox:
    """Holds records between two incidents. All but `ask` is for the writer thread alone."""

    def __init__(
        self,
        recorder: Recorder,
        watch: Watch,
        *,
        is_paused: Callable[[], bool] = lambda: False,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.watch = watch
        self.held_bytes = 0
        self._recorder = recorder
        self._is_paused = is_paused
        self._most_bytes = most_bytes
        self._held: deque[Records] = deque()
        self._counters: deque[pa.RecordBatch] = deque(maxlen=_MOST_COUNTER_BATCHES)
        self._steps: deque[int] = deque(maxlen=watch.keep_last)
        self._asked: deque[str] = deque()
        self._slow: tuple[int, int] | None = None
        self._is_cut = False
        self._progress = 0, 0
        self._progress_at = time.monotonic()
        self._is_hung = False

    def ask(self, reason: str) -> None:
        """Write at the next flush; from any thread."""
        self._asked.append(reason)

    @property
    def asked(self) -> int:
        """How often `ask` was called since the last incident."""
        return len(self._asked)

    def keep(self, records: Records) -> None:
        """Take drained records; let go of those before the last steps."""
        self._held.append(records)
        self.held_bytes += records.nbytes
        ends = records[records["kind"] == int(Kind.STEP)]
        for step, duration in zip(ends["step"].tolist(), ends["duration"].tolist(), strict=True):
            self._steps.append(step)
            limit = self.watch.slow_step_s
            slowest = 0 if self._slow is None else self._slow[1]
            if limit is not None and duration > max(limit * 1e9, slowest):
                self._slow = step, duration
        while self._held and int(self._held[0]["step"].max(initial=NONE)) < self._first_step:
            self._let_go()
        while self.held_bytes > self._most_bytes:
            self._is_cut = True
            self._let_go()

    def keep_counters(self, batch: pa.RecordBatch) -> None:
        """Take the counters of a flush."""
        self._counters.append(batch)

    def incident(self, asked: int) -> str | None:
        """Why to write now, or None: what was `asked` first, a slow step, a hang, which is told
        once.
        """
        reasons = [self._asked.popleft() for _ in range(asked)]
        if self._slow is not None:
            step, duration = self._slow
            reasons.append(f"slow step {step} ({duration / 1e9:.3g} s)")
            self._slow = None
        if self._hangs():
            self._is_hung = True
            reasons.append(f"no progress for {self.watch.hang_s:g} s")
        return "; ".join(reasons) or None

    @property
    def is_hung(self) -> bool:
        """Whether there has been no progress since it was last told."""
        return self._is_hung

    def release(self, reason: str) -> tuple[list[Records], list[pa.RecordBatch]]:
        """All that is held of the last steps, with a mark that says why; then nothing is held."""
        first = self._first_step
        records = [held[held["step"] >= first] for held in self._held]
        if self._is_cut:
            reason += f"; fewer steps than asked for: {self._most_bytes >> 20} MB reached"
        records.append(self._mark(reason))
        counters = list(self._counters)
        self._held.clear()
        self._counters.clear()
        self._steps.clear()
        self.held_bytes, self._is_cut = 0, False
        return records, counters

    def waits_in(self) -> str:
        """The operation that this rank called last and did not wait for to its end, in words."""
        held = [held[held["is_operation"] == 1] for held in self._held]
        operations = np.concatenate([np.empty(0, RECORD_DTYPE), *held])
        waited = operations["correlation"][operations["kind"] == int(Kind.WAIT)]
        calls = operations[np.isin(operations["kind"], _CALLS)]
        open_calls = calls[~np.isin(calls["correlation"], waited)]
        if not len(open_calls):
            return "outside any communication that is recorded"
        last = open_calls[np.argmax(open_calls["start"])]
        recorder = self._recorder
        name, group = recorder.names.words[last["name"]], recorder.groups.words[last["group"]]
        peer = f" with rank {last['peer']}" if last["peer"] != NONE else ""
        size = f" ({last['bytes']:,} B)" if last["bytes"] != NONE else ""
        return f"in {name} #{last['seq']} of {group}{peer}{size}"

    @property
    def _first_step(self) -> int:
        """The first step that is held; before any is complete, whatever there is."""
        full = len(self._steps) == self._steps.maxlen
        return self._steps[0] if full else NONE

    def _let_go(self) -> None:
        self.held_bytes -= self._held.popleft().nbytes

    def _hangs(self) -> bool:
        recorder, now = self._recorder, time.monotonic()
        progress = recorder.emitted, recorder.step
        if progress != self._progress or not recorder.active or self._is_paused():
            self._progress, self._progress_at, self._is_hung = progress, now, False
        began = recorder.emitted > 0
        return began and not self._is_hung and now - self._progress_at >= self.watch.hang_s

    def _mark(self, reason: str) -> Records:
        recorder = self._recorder
        values = {
            "start": recorder.clock(),
            "duration": 0,
            "step": recorder.step,
            "lane": recorder.lanes.intern(LANE),
            "kind": int(Kind.MARKER),
            "is_operation": 0,
            "name": recorder.names.intern(MARK + reason),
        }
        row = tuple(values.get(field, NONE) for field in RECORD_DTYPE.names or ())
        return np.array([row], RECORD_DTYPE)


def append_stacks(directory: Path, rank: int, reason: str) -> None:
    """Append the Python stacks of all threads of this process to `rank-00000.stacks.txt`."""
    with open(directory / stacks_file(rank), "a", encoding="utf-8") as file:
        file.write(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {reason}\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
        file.write("\n")


def say_that_it_hangs(box: BlackBox, directory: Path, rank: int) -> None:
    """Tell the user on standard error where this rank is stuck, and how to find out why."""
    warn(
        f"rank {rank}: no progress for {box.watch.hang_s:g} s; it is {box.waits_in()}. The last "
        f"steps are written to {directory}, the Python stacks to {stacks_file(rank)} there; "
        f"`rankscope check {directory}` names the ranks that did not arrive"
    )
