"""Kineto files → their events: several files are read at a time, and given on in their order.

Threads do it, since what takes time (DuckDB, RE2, numpy, gzip) does not hold Python's lock. What is
made of the events happens in one thread, file after file: so a run does not depend on how many
threads there were, and of several bad files the first one is named.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from collectors.importers.chrome_json import ChromeTrace
from collectors.importers.exported_chrome import is_exported
from collectors.importers.formats import Advance
from collectors.importers.kineto_columns import of_events
from collectors.importers.kineto_events import KinetoEvents
from collectors.importers.kineto_pieces import PieceReader
from tracer.errors import DamagedTrace

_MOST_AHEAD: Final = 1 << 30
"""Bytes of JSON in the files that are read at a time; a sixth of it is in memory as columns."""
_PACKED: Final = 15
"""So many times smaller gzip makes a trace."""
_MOST_THREADS: Final = 16


@dataclass(kw_only=True, slots=True, frozen=True)
class KinetoFile:
    """One file, read. `events` is None if it is an export of Rankscope itself."""

    path: Path
    facts: dict[str, Any]
    events: KinetoEvents | None


def read_files(files: Sequence[Path], advance: Advance, take: Callable[[KinetoFile], None]) -> None:
    """Read the files; `take` gets them in their order, in this thread.

    advance: is called from several threads, never by two at once.

    Raises:
        DamagedTrace: a file is cut off, no JSON, or made to fill the memory.
    """
    threads = max(min(len(files), len(os.sched_getaffinity(0)), _MOST_THREADS), 1)
    reading = _Reading(threads, advance)
    waiting: deque[tuple[int, Future[KinetoFile]]] = deque()
    left = deque(files)
    with contextlib.closing(reading), ThreadPoolExecutor(threads, "import") as pool:
        try:
            while waiting or left:
                ahead = sum(size for size, _ in waiting)
                while left and len(waiting) < threads:
                    size = _unpacked_size(left[0])
                    if waiting and ahead + size > _MOST_AHEAD:
                        break
                    ahead += size
                    waiting.append((size, pool.submit(reading.read, left.popleft())))
                # Not a name of ours: nothing may hold the file when it has been taken.
                take(waiting.popleft()[1].result())
        finally:
            reading.stop()
            for _, future in waiting:
                future.cancel()


class _Reading:
    """What the threads share."""

    def __init__(self, threads: int, advance: Advance) -> None:
        self._advance = advance
        self._lock = threading.Lock()
        self._stopped = False
        self._readers: SimpleQueue[PieceReader] = SimpleQueue()
        for _ in range(threads):
            self._readers.put(PieceReader())

    def read(self, path: Path) -> KinetoFile:
        """Read one file."""
        if is_exported(path):
            return KinetoFile(path=path, facts={}, events=None)
        reader = self._readers.get()
        events, trace = KinetoEvents(), ChromeTrace(path, self._note)
        try:
            for columns in trace.stretches(reader.columns, of_events):
                events.take(columns)
        except RecursionError as error:
            raise DamagedTrace(f"{path}: nested deeper than any trace") from error
        except DamagedTrace as error:
            if str(path) in str(error):
                raise
            raise DamagedTrace(f"{path}: {error}") from error
        finally:
            self._readers.put(reader)
        return KinetoFile(path=path, facts=trace.facts, events=events)

    def stop(self) -> None:
        """Make `read` end soon; nobody wants to know the rest."""
        self._stopped = True

    def close(self) -> None:
        """Give back what the threads used."""
        while not self._readers.empty():
            self._readers.get().close()

    def _note(self, done: int) -> None:
        if self._stopped:
            raise _Stopped
        with self._lock:
            self._advance(done)


class _Stopped(Exception):
    """Ends a thread whose result nobody waits for."""


def _unpacked_size(path: Path) -> int:
    try:
        size = path.stat().st_size
    except OSError:
        return 0  # reading it will say why
    return size * _PACKED if path.suffix == ".gz" else size
