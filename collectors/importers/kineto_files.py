"""Kineto files → their events: several files are read at a time, and given on in their order.

This process reads files, and helpers do (kineto_helper.py), one per further core. What is made of
the events happens here, file after file: so a run does not depend on how many helpers there were,
and of several bad files the first one is named.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from queue import SimpleQueue
from typing import Final

from collectors.importers.exported_chrome import is_exported
from collectors.importers.formats import Advance
from collectors.importers.kineto_helper import Helper, loaded, put
from collectors.importers.kineto_pieces import PieceReader
from collectors.importers.kineto_reading import KinetoFile, read_file
from collectors.scratch import scratch

_MOST_AHEAD: Final = 1 << 30
"""Bytes of JSON in the files that are read at a time; a sixth of it is in memory as columns."""
_PACKED: Final = 15
"""So many times smaller gzip makes a trace."""
_MOST_PROCESSES: Final = 16
_AHEAD: Final = 3
"""Files for each process, so that helpers have something to do while this one makes rows."""
_WORTH: Final = 48 << 20
"""Bytes of JSON for each process: a helper takes as long to start as to read 30 MB, and 50 MB of
memory."""


def read_files(files: Sequence[Path], advance: Advance, take: Callable[[KinetoFile], None]) -> None:
    """Read the files; `take` gets them in their order, in this thread.

    advance: is called from several threads, never by two at once.

    Raises:
        DamagedTrace: a file is cut off, no JSON, or made to fill the memory.
    """
    left = deque((path, _unpacked_size(path)) for path in files)
    waiting: deque[_Asked] = deque()
    processes = _processes([size for _, size in left])
    with contextlib.closing(_Reading(processes - 1, advance)) as reading:
        while waiting or left:
            ahead = sum(asked.size for asked in waiting)
            while left and len(waiting) < _AHEAD * processes:
                path, size = left[0]
                if waiting and ahead + size > _MOST_AHEAD:
                    break
                ahead += size
                asked: Future[KinetoFile | Path] = Future()
                if not _is_for_here(path, files):
                    asked = reading.ask(path)
                waiting.append(_Asked(*left.popleft(), asked))
            _read_here(waiting, len(left), reading)
            # Not a name of ours: nothing may hold the file when it has been taken.
            take(_held(waiting.popleft(), reading))


def _is_for_here(path: Path, files: Sequence[Path]) -> bool:
    """The first file is: until it is there, all that is read meanwhile would have to be kept."""
    return path == files[0]


@dataclass(slots=True)
class _Asked:
    """A file, and what it holds, or where that was put."""

    path: Path
    size: int
    future: Future[KinetoFile | Path]


def _held(asked: _Asked, reading: _Reading) -> KinetoFile:
    found = asked.future.result()
    if not isinstance(found, Path):
        return found
    try:
        return loaded(found)
    except (OSError, EOFError, UnpicklingError):
        # Another host removes what no process of its own holds, where locks are of one host only.
        return reading.read_anew(asked.path)


def _read_here(waiting: Sequence[_Asked], left: int, reading: _Reading) -> None:
    """Read what no helper has begun, the first of it first, until the first of all is there. The
    last files, one for each helper, are left to these: all would wait for this process, which has
    rows to make.

    left: files that nobody has been asked for.
    """
    for place, asked in enumerate(waiting):
        is_last = place > 0 and len(waiting) - place + left <= reading.helpers
        if waiting[0].future.done() or is_last:
            return
        if asked.future.cancel():
            asked.future = Future()
            try:
                read = reading.read if asked is waiting[0] else reading.read_ahead
                asked.future.set_result(read(asked.path))
            except Exception as error:  # it is raised when it is this file's turn
                asked.future.set_exception(error)


class _Reading:
    """The helpers, a thread for each that waits for what it reads, and what this process needs to
    read itself.
    """

    def __init__(self, helpers: int, advance: Advance) -> None:
        self._advance = advance
        self._lock = threading.Lock()
        self._stopped = False
        self._reader = PieceReader()
        self._scratch = contextlib.ExitStack()
        self._place: Path | None = None  # where helpers put what they found
        if helpers:
            with contextlib.suppress(OSError):
                self._place = self._scratch.enter_context(scratch())
        self._helpers = [Helper() for _ in range(helpers if self._place else 0)]
        self._free: SimpleQueue[Helper] = SimpleQueue()
        for helper in self._helpers:
            self._free.put(helper)
        self._pool = ThreadPoolExecutor(helpers, "import") if self._helpers else None
        self._numbers = count()

    @property
    def helpers(self) -> int:
        """How many there are."""
        return len(self._helpers)

    def ask(self, path: Path) -> Future[KinetoFile | Path]:
        """Have the file read by the next helper that is free, if there is any."""
        if self._pool is None or self._place is None:
            return Future()
        found = self._place / str(next(self._numbers))
        return self._pool.submit(self._by_helper, path, found)

    def read(self, path: Path) -> KinetoFile:
        """Read it here and now."""
        if is_exported(path):
            return KinetoFile(path=path, facts={}, events=None)
        return read_file(path, self._reader, self._note)

    def read_ahead(self, path: Path) -> KinetoFile | Path:
        """The same, put on disk until its turn, so that it takes no memory; if there is room."""
        file = self.read(path)
        if self._place is None:
            return file
        found = self._place / str(next(self._numbers))
        try:
            put(file, found)
        except OSError:
            found.unlink(missing_ok=True)
            return file
        return found

    def read_anew(self, path: Path) -> KinetoFile:
        """Read here what was read before."""
        self._note(-path.stat().st_size)
        return self.read(path)

    def close(self) -> None:
        """End all; nobody wants to know the rest."""
        self._stopped = True
        for helper in self._helpers:
            helper.stop()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for helper in self._helpers:
            helper.close()
        self._scratch.close()
        self._reader.close()

    def _by_helper(self, path: Path, found: Path) -> KinetoFile | Path:
        if is_exported(path):
            return KinetoFile(path=path, facts={}, events=None)
        helper = self._free.get()
        try:
            is_done = helper.read(path, found, self._note)
        finally:
            self._free.put(helper)
        if is_done:
            return found
        with contextlib.suppress(OSError):
            found.unlink()  # what it could not finish may fill the disk
        with contextlib.closing(PieceReader()) as reader:
            return read_file(path, reader, self._note)

    def _note(self, done: int) -> None:
        if self._stopped:
            raise _Stopped
        with self._lock:
            self._advance(done)


class _Stopped(Exception):
    """Ends a thread whose result nobody waits for."""


def _processes(sizes: Sequence[int]) -> int:
    """How many read, this one included."""
    cores = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    return max(min(len(sizes), cores, sum(sizes) // _WORTH), 1)


def _unpacked_size(path: Path) -> int:
    try:
        size = path.stat().st_size
    except OSError:
        return 0  # reading it will say why
    return size * _PACKED if path.suffix == ".gz" else size
