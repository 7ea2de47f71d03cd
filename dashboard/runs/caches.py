"""What was worked out of a large run and is kept for the next time: where, and for which files.

Beside the run in `.rankscope-cache/`, or, where that cannot be written, in the user's cache
directory under a name made of the run's path. All of it may be deleted at any time. A cache names
the run's files with their sizes and times, and is made anew when these differ.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Final

FOLDER: Final = ".rankscope-cache"

_PART: Final = ".part"
_ABANDONED_S: Final = 86_400
"""A part that nobody has written to for a day was left by a process that was killed."""

Fingerprint = dict[str, list[int]]
"""Name of each file of a run → its size in bytes and the time of its last change in ns."""


def fingerprint(run: Path) -> Fingerprint:
    """The files of the run as they are now. Take it before they are read, so that what is written
    meanwhile makes the cache stale.

    Raises:
        OSError: the directory cannot be read.
    """
    found = {}
    with os.scandir(run) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file() and not entry.name.startswith("."):
                    facts = entry.stat()
                    found[entry.name] = [facts.st_size, facts.st_mtime_ns]
    return dict(sorted(found.items()))


def places(run: Path) -> tuple[Path, Path]:
    """Where caches of the run may be, the preferred place first."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:32]
    return run / FOLDER, Path(base) / "rankscope" / name


def writable_place(run: Path) -> Path | None:
    """The first of `places` in which files can be made; None if there is none."""
    for place in places(run):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                return place
    return None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. It takes the place of `path` at the end, at once and whole,
    so that of two who write at the same time the later one wins; on an error it is gone.
    """
    for left in path.parent.glob(f"{escape(path.name)}.*{_PART}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_PART}")
    part.touch(exist_ok=False)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
