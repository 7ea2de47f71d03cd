"""The formats that can be imported: how their files are recognized, and who reads them.

A new format is one module with a `FORMAT` in it, and one line in `IMPORTERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from collectors.importers.imported_run import SMALL, Watch, imported_run
from collectors.memory_pool import from_the_system
from tracer.errors import TraceError, UsageError

IMPORTERS: Final[dict[str, str]] = {
    "kineto": "collectors.importers.kineto",
    "flight-recorder": "collectors.importers.flight_recorder",
    "nsys": "collectors.importers.nsys",
    "nccl": "collectors.importers.nccl",
}
"""Name of a format → the module that reads it."""

VERSION: Final = 2
"""Kept beside every imported run in the cache; a run of another version is imported anew. To be
raised when an importer makes something else of the same files."""

Advance = Callable[[int], None]
"""Told of bytes of the source files that are done."""

_LISTED: Final = 8


Read = Callable[..., None]
"""`read(files, run, advance, **options)`: give the `ImportedRun` all that the files hold, and tell
`advance` of the bytes that are done. Raises `TraceError` for a file that is damaged, not of this
format, or of no known rank; the message names it.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class Option:
    """A choice that a format offers on the command line: `--name`, passed on as `name=`."""

    name: str
    help: str
    default: str
    choices: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True, frozen=True)
class Format:
    """One kind of foreign file.

    Attributes:
        name: as in `rankscope import NAME` and in `run.json`.
        title: what it is, in a few words.
        help: what to pass, how such files are made, what of them is imported; for `--help`.
        patterns: names that such files usually have, as in a shell.
        recognizes: whether a file of such a name is one, by its first bytes; False where in doubt.
        read: the parser.
    """

    name: str
    title: str
    help: str
    patterns: tuple[str, ...]
    recognizes: Callable[[Path], bool]
    read: Read
    options: tuple[Option, ...] = ()


def format_named(name: str) -> Format:
    """The format of that name."""
    found: Format = import_module(IMPORTERS[name]).FORMAT
    return found


def files_of(format: Format, paths: Sequence[Path]) -> list[Path]:
    """The files to read: those that are named, and of a directory those that are of the format.

    Raises:
        UsageError: a path that does not exist, or a directory without such a file.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or directory; check the path")
        if not path.is_dir():
            found.append(path)
            continue
        inside = _inside(format, path)
        if not inside:
            raise UsageError(
                f"{path}: no file of {format.title} in it (looked for "
                f"{', '.join(format.patterns)}){_elsewhere(format, path)}"
            )
        found += inside
    return list(dict.fromkeys(found))


def recognized(path: Path) -> tuple[Format, list[Path]] | None:
    """The format of a file, or of the files in a directory, and these; None if there are none.

    Raises:
        TraceError: the directory holds several formats.
    """
    found = []
    left = sorted(path.iterdir()) if path.is_dir() else [path]
    for name in IMPORTERS:
        if not any(map(Path.is_file, left)):
            break  # other formats need not be loaded
        format = format_named(name)
        files = [file for file in left if _is(format, file)]
        if files:
            found.append((format, files))
            left = sorted({*left} - {*files})
    if len(found) > 1:
        names = ", ".join(f"{format.name} ({files[0].name}, …)" for format, files in found)
        raise TraceError(
            f"{path}: holds files of several formats: {names}; import the one that you mean with "
            f"`rankscope import {found[0][0].name} {path} -o RUN`"
        )
    return found[0] if found else None


def import_files(
    format: Format,
    files: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
    advance: Advance = lambda done: None,
    watch: Watch = lambda rank, events: None,
    codec: pa.Codec = SMALL,
    **options: Any,
) -> None:
    """Make the run directory `out` of these files; either all of it is there afterwards or none.
    `watch` sees all events as they are written; `codec` is as for `imported_run`.

    Raises:
        UsageError: `out` exists already or cannot be written.
        TraceError: a file is damaged or holds nothing.
    """
    defaults = {option.name.replace("-", "_"): option.default for option in format.options}
    named = str(files[0]) + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
    with (
        from_the_system(),
        imported_run(
            out, format=format.name, overwrite=overwrite, named=named, watch=watch, codec=codec
        ) as run,
    ):
        format.read(files, run, advance, **(defaults | options))


def _inside(format: Format, directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if _is(format, path))


def _is(format: Format, path: Path) -> bool:
    named = any(fnmatch(path.name, pattern) for pattern in format.patterns)
    try:
        return named and path.is_file() and format.recognizes(path)
    except (OSError, ValueError):
        return False


def _elsewhere(format: Format, directory: Path) -> str:
    """Subdirectories that have some: profilers often make one per step."""
    with os.scandir(directory) as entries:
        below = sorted(Path(entry.path) for entry in entries if entry.is_dir())
    having = [str(path) for path in below[:100] if _inside(format, path)]
    if not having:
        return ""
    more = ", …" if len(having) > _LISTED else ""
    return f"; these have some, name one: {', '.join(having[:_LISTED])}{more}"
