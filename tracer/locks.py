"""The lock of a run directory: held by every rank of a job that records into it, by no other job.

The file names the run. All its ranks share a lock on one byte, and each holds the byte of its
own rank alone. These locks (POSIX record locks) end with the process, however it ends; a forked
child does not have them; and network file systems know them. Where a file system has no locks,
nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from enum import Enum
from pathlib import Path
from typing import Final

LOCK_FILE: Final = ".lock"

_JOB: Final = 1 << 30
"""The byte that the ranks share, and behind it one for each: beyond what the file holds, since
some file systems refuse reading where a lock is."""

_HELD: Final = (errno.EACCES, errno.EAGAIN)
_PATIENCE_S: Final = 5.0
"""Other ranks hold the whole lock for some microseconds, while they enter or leave."""


class HeldByAnother(Exception):
    """Another job is recording into the directory."""


class _Try(Enum):
    JOINED = "joined"
    AGAIN = "again"
    NO_LOCKS = "no locks"


def lock(directory: Path, run_id: str, rank: int) -> int | None:
    """The descriptor that holds the lock for this rank; None where the file system has no locks.

    Raises:
        HeldByAnother: another run is recording there, or this rank of the same run is.
        OSError: the directory cannot be written to.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            tried = _join(descriptor, directory, run_id)
            if tried is _Try.JOINED:
                if not _acquire(descriptor, fcntl.LOCK_EX, _JOB + 1 + rank):
                    raise HeldByAnother
                return descriptor
            if tried is _Try.AGAIN and time.monotonic() > deadline:
                raise HeldByAnother
        except BaseException:
            unlock(descriptor, directory)
            raise
        os.close(descriptor)
        if tried is _Try.NO_LOCKS:
            with contextlib.suppress(OSError):
                (directory / LOCK_FILE).unlink()
            return None
        time.sleep(0.005)


def unlock(descriptor: int, directory: Path) -> None:
    """Give the lock back; the last rank to do so removes the file."""
    with contextlib.suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _JOB)
        if _is_there(descriptor, directory):
            (directory / LOCK_FILE).unlink()
    os.close(descriptor)


def _join(descriptor: int, directory: Path, run_id: str) -> _Try:
    try:
        alone = _acquire(descriptor, fcntl.LOCK_EX, _JOB)
        if not alone and not _acquire(descriptor, fcntl.LOCK_SH, _JOB):
            return _Try.AGAIN
    except OSError:
        return _Try.NO_LOCKS
    if not _is_there(descriptor, directory):
        return _Try.AGAIN
    if alone:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, run_id.encode(), 0)
        _acquire(descriptor, fcntl.LOCK_SH, _JOB)
    elif os.pread(descriptor, 64, 0) != run_id.encode():
        raise HeldByAnother
    return _Try.JOINED


def _acquire(descriptor: int, how: int, byte: int) -> bool:
    """Whether no one else holds the byte in a way that stands against `how`."""
    try:
        fcntl.lockf(descriptor, how | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def _is_there(descriptor: int, directory: Path) -> bool:
    """Whether the file is still the one in the directory: who left last has removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(directory / LOCK_FILE))
    except FileNotFoundError:
        return False
