"""Writing exported files: whole or not at all, with errors that name the file."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from dashboard.runs.caches import replacing
from tracer.errors import UsageError

Advance = Callable[[float], None]
"""Told of work that is done, in ranks: 1.0 is all events of one rank."""


STANDARD_OUTPUT: Final = Path("-")
_GZIP_LEVEL: Final = 4
"""Half the time of the highest for a tenth more bytes."""


@contextlib.contextmanager
def replacing_file(out: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `out` at the end; on an error, or Ctrl-C, what
    was at `out` before is still there. It is compressed if the name of `out` ends with `.gz`. The
    directory is made if it does not exist.

    Raises:
        UsageError: `out` cannot be written: it is a directory, its own cannot be made, or the disk
            is full.
    """
    if out.is_dir():
        raise UsageError(f"{out}: is a directory; name a file (-o FILE)")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as part, part.open("wb") as file:
            if out.suffix == ".gz":
                with gzip.GzipFile(out.stem, "wb", _GZIP_LEVEL, file, mtime=0) as compressed:
                    yield cast(BinaryIO, compressed)
            else:
                yield file
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """A directory to fill; on an error, or Ctrl-C, what was written is removed.

    Raises:
        UsageError: something is at `out` already, or it cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out}: exists already; name a new directory (-o DIR)")
    written: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield out
    except BaseException as error:
        written = sorted(out.rglob("*"), reverse=True)
        with contextlib.suppress(OSError):
            for path in [*written, out]:
                path.rmdir() if path.is_dir() else path.unlink()
        if isinstance(error, OSError):
            raise UsageError(f"{out}: cannot be written: {error.strerror or error}") from error
        raise
