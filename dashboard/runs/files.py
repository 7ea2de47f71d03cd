"""Which files of a directory are those of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tracer.errors import TraceError
from tracer.schema import MAX_RANK, RUN_FILE, events_file

_EVENTS_NAME: Final = re.compile(r"rank-([0-9]{5,7})\.arrows")
_NAMED_AT_MOST: Final = 16
"""Runs in one message."""


def holds_events(directory: Path) -> bool:
    """Whether there are files of ranks in it."""
    return directory.is_dir() and any(directory.glob("rank-*.arrows"))


def event_files(directory: Path) -> dict[int, Path]:
    """The file of events of each rank, in order of rank.

    Raises:
        TraceError: there is no such directory, or none in it.
    """
    if not directory.exists():
        raise TraceError(f"{directory}: no such run directory; check the path")
    if not directory.is_dir():
        raise TraceError(f"{directory}: is a file; name the run directory that holds {RUN_FILE}")
    matches = ((_EVENTS_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    found = {int(match[1]): path for match, path in matches if match}
    files = {
        rank: path
        for rank, path in found.items()
        if rank <= MAX_RANK and path.name == events_file(rank)
    }
    if not files:
        inside = _runs_inside(directory)
        if inside:
            raise TraceError(f"{directory}: no run, but these in it are, name one: {inside}")
        raise TraceError(
            f"{directory}: no {events_file(0)} or other rank files here; record a run with "
            f"`torchrun … -m tracer --out {directory} train.py`, or name its directory "
            "(or one with another tool's traces, see `rankscope import --help`)"
        )
    return dict(sorted(files.items()))


def _runs_inside(directory: Path) -> str:
    """The runs in a directory of runs, by name; empty where it has none."""
    having = [
        str(path)
        for path in sorted(directory.iterdir())
        if not path.name.startswith(".") and holds_events(path)
    ]
    more = ["…"] if len(having) > _NAMED_AT_MOST else []
    return ", ".join([*having[:_NAMED_AT_MOST], *more])
