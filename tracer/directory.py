"""Claim a run directory: each rank answers for its own files, so that ranks cannot race."""

from __future__ import annotations

import os
from pathlib import Path

from tracer.errors import UsageError
from tracer.schema import RUN_FILE, events_file, facts_file


def attempt_directory(path: Path) -> Path:
    """Where this attempt of an elastic launch records: `runs/a`, then `runs/a.restart-1`, ….

    torchrun starts a failed training again in the same words. The second attempt must neither
    mix its files with the first one's nor be refused, since a refusal would end the training.
    """
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    absolute = Path(os.path.abspath(path))
    return absolute if restart == "0" else absolute.with_name(f"{absolute.name}.restart-{restart}")


def claim(directory: Path, rank: int, world_size: int, *, overwrite: bool) -> None:
    """Make the directory, and the events file of this rank in it, which must not exist.

    Raises:
        UsageError: it holds a run (and not `overwrite`), or it cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _remove_rank(directory, rank)
            if rank == 0:
                _remove_beyond(directory, world_size)
        elif rank == 0 and (directory / RUN_FILE).exists():
            raise FileExistsError
        (directory / events_file(rank)).touch(exist_ok=False)
    except FileExistsError as error:
        raise UsageError(
            f"{directory}: holds a run already (or is a file); name another directory, "
            "or pass overwrite=True (--overwrite) to replace the run"
        ) from error
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written to ({error.strerror})") from error


def _remove_beyond(directory: Path, world_size: int) -> None:
    """Remove the files of ranks that the new run does not have, and what spoke for the old one."""
    (directory / RUN_FILE).unlink(missing_ok=True)
    for stale in directory.glob("rank-*.arrows"):
        number = stale.name.removeprefix("rank-").partition(".")[0]
        if number.isdigit() and int(number) >= world_size:
            _remove_rank(directory, int(number))


def _remove_rank(directory: Path, rank: int) -> None:
    stem = facts_file(rank).removesuffix(".json")
    for path in directory.glob(f"{stem}.*"):
        path.unlink(missing_ok=True)
