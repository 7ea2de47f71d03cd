"""Claim a run directory: each rank answers for its own files, so that ranks cannot race."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Final

from tracer.errors import TraceError, UsageError
from tracer.locks import HeldByAnother, lock, unlock
from tracer.run_files import read_rank_facts, read_run_meta
from tracer.schema import RUN_FILE, events_file, facts_file

_claims: Final[weakref.WeakValueDictionary[Path, Claim]] = weakref.WeakValueDictionary()
"""Those of this process by directory: its own locks do not stand against each other."""


def attempt_directory(path: Path) -> Path:
    """Where this attempt of an elastic launch records: `runs/a`, then `runs/a.restart-1`, ….

    torchrun starts a failed training again in the same words. The second attempt must neither
    mix its files with the first one's nor be refused, since a refusal would end the training.
    """
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    absolute = Path(os.path.abspath(path))
    return absolute if restart == "0" else absolute.with_name(f"{absolute.name}.restart-{restart}")


class Claim:
    """What one rank has of a run directory, until `release`: its events file, and the lock.

    The events file is held open: the number of a file that nobody has open is given to the next
    one that is made, and a file of another job could pass for ours.
    """

    released = False
    _held: int | None = None  # here as well, for the end of one that was not made
    _lock: int | None = None

    def __init__(self, events: Path, lock: int | None) -> None:
        self._events = events
        self._held = os.open(events, os.O_RDONLY)
        self._made = os.fstat(self._held)
        self._lock = lock

    def __del__(self) -> None:
        try:  # noqa: SIM105 - nothing more may fail here, not even what suppresses
            self.release()
        except Exception:
            pass

    def check(self) -> None:
        """See to it that the files still are ours.

        Raises:
            OSError: the directory was deleted, or another job has replaced the files.
        """
        if not os.path.samestat(self._made, os.stat(self._events)):
            raise FileExistsError(f"{self._events} was deleted, and another job has made it anew")

    def release(self) -> None:
        """From now on another job may overwrite the run. Calling it twice is fine."""
        self.released = True
        held, self._held = self._held, None
        if held is not None:
            os.close(held)
        lock, self._lock = self._lock, None
        if lock is not None:
            unlock(lock, self._events.parent)


def claim(directory: Path, rank: int, world_size: int, run_id: str, *, overwrite: bool) -> Claim:
    """Make the directory, and the events file of this rank in it, which must not exist.

    Raises:
        UsageError: it holds a run (and not `overwrite`), another job is recording into it, or it
            cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return _claim(directory, rank, world_size, run_id, overwrite=overwrite)
    except HeldByAnother:
        raise UsageError(
            f"{directory}: another job is recording into it now{_by_whom(directory, rank)}; "
            "name another directory"
        ) from None
    except FileExistsError as error:
        raise UsageError(
            f"{directory}: holds a run already (or is a file); name another directory, "
            "or pass overwrite=True (--overwrite) to replace the run"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{directory}: cannot be written to ({error.strerror}); name another directory"
        ) from error


def _claim(directory: Path, rank: int, world_size: int, run_id: str, *, overwrite: bool) -> Claim:
    place = Path(os.path.realpath(directory))
    before = _claims.get(place)
    if before is not None and not before.released:
        if not overwrite:
            raise FileExistsError
        before.release()
    descriptor = lock(directory, run_id, rank)
    events = directory / events_file(rank)
    try:
        if overwrite:
            _remove_rank(directory, rank)
            if rank == 0:
                _remove_beyond(directory, world_size)
        elif _holds_another_run(directory, rank, run_id):
            raise FileExistsError
        events.touch(exist_ok=False)
        made = _claims[place] = Claim(events, descriptor)
    except BaseException:
        if descriptor is not None:
            unlock(descriptor, directory)
        raise
    return made


def _holds_another_run(directory: Path, rank: int, run_id: str) -> bool:
    """Whether rank 0 of another job has been here; of this job it may be faster than we are."""
    try:
        return read_run_meta(directory).run_id != run_id or rank == 0
    except FileNotFoundError:
        return False
    except (TraceError, OSError):
        return True


def _by_whom(directory: Path, rank: int) -> str:
    try:
        facts = read_rank_facts(directory, rank)
    except (TraceError, OSError):
        return ""
    return f" (rank {rank}: pid {facts.pid} on {facts.host})" if facts.ended is None else ""


def _remove_beyond(directory: Path, world_size: int) -> None:
    """Remove the files of ranks that the new run does not have, and what spoke for the old one."""
    (directory / RUN_FILE).unlink(missing_ok=True)
    _remove(directory, f".{RUN_FILE}.*.tmp")
    for stale in directory.glob("rank-*.arrows"):
        number = stale.name.removeprefix("rank-").partition(".")[0]
        if number.isdigit() and int(number) >= world_size:
            _remove_rank(directory, int(number))


def _remove_rank(directory: Path, rank: int) -> None:
    stem = facts_file(rank).removesuffix(".json")
    _remove(directory, f"{stem}.*")
    _remove(directory, f".{stem}.*.tmp")


def _remove(directory: Path, pattern: str) -> None:
    for path in directory.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
