"""Python's garbage collections: the pauses in which a process does nothing else."""

from __future__ import annotations

import gc
import threading
from collections import deque
from threading import get_ident
from typing import Any, Final, TypeAlias

import numpy as np

from tracer.recorder import Recorder
from tracer.rings import NONE, RECORD_DTYPE
from tracer.schema import GARBAGE_COLLECTION, Kind
from tracer.topology import Topology

SHORTEST_NS: Final = 100_000
"""Collections of the youngest objects come thousands of times per second and take some µs each:
shorter pauses than this are worth no event, and explain no slow step."""

_MOST_PAUSES: Final = 1 << 12
"""Held between two flushes; older ones are dropped beyond."""

_Pause: TypeAlias = tuple[int, int, int, int, int, int]
"""start, duration (ns), step, stage, microbatch, number of the thread."""


class GarbageCollections:
    """Records every collection of at least `SHORTEST_NS` as a span of kind `user`.

    A collection may begin at any allocation, also inside one of our own hooks or while a lock is
    held. So its callback takes no lock and does not touch the ring: the writer thread records.
    """

    covers = "pauses by Python's garbage collection"

    def __init__(self) -> None:
        self._pauses: deque[_Pause] = deque(maxlen=_MOST_PAUSES)
        self._callback: Any = None

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Listen to the collector."""
        self._recorder = recorder
        self._name = recorder.names.intern(GARBAGE_COLLECTION)
        recorder.on_flush.append(self._flush)
        recorder.on_close.append(self._flush)
        self._callback = _listener(recorder, self._pauses)
        gc.callbacks.append(self._callback)

    def uninstall(self) -> None:
        """Listen no more."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)

    def _flush(self) -> None:
        pauses = [self._pauses.popleft() for _ in range(len(self._pauses))]
        if not pauses:
            return
        names = {t.ident: t.name for t in threading.enumerate()}
        names[threading.main_thread().ident] = "main"
        rows = [self._row(pause, names.get(pause[-1], "ended")) for pause in pauses]
        self._recorder.add_late(np.array(rows, RECORD_DTYPE))

    def _row(self, pause: _Pause, thread: str) -> tuple[int, ...]:
        start, duration, step, stage, microbatch, _ = pause
        values = {
            "start": start,
            "duration": duration,
            "step": step,
            "lane": self._recorder.lanes.intern(f"host:{thread}"),
            "kind": int(Kind.USER),
            "is_operation": 0,
            "name": self._name,
            "stage": stage,
            "microbatch": microbatch,
        }
        return tuple(values.get(field, NONE) for field in RECORD_DTYPE.names or ())


def _listener(recorder: Recorder, pauses: deque[_Pause]) -> Any:
    clock = recorder.clock
    began = NONE

    def listen(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if recorder.paused or not recorder.active:
            began = NONE
            return
        try:
            if phase == "start":
                began = clock()
            elif began != NONE:
                duration = clock() - began
                if duration >= SHORTEST_NS:
                    pauses.append(
                        (
                            *(began, duration, recorder.step),
                            *(recorder.stage, recorder.microbatch, get_ident()),
                        )
                    )
                began = NONE
        except Exception as error:
            recorder.fault(error)

    return listen
