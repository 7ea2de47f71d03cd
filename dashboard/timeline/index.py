"""The timeline of a large run as a file: made when it is first needed, mapped into memory then.

The file holds the arrays of `Timeline` as they are, so that opening it reads the lanes, names and
steps, and a window reads the pages that it touches. One made of other files, by another version, or
damaged in its head or its length, is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from dashboard.runs.caches import places, replacing, writable_place
from dashboard.timeline.array_file import ArrayWriter, BadArrayFile, read_arrays
from dashboard.timeline.build import build_timeline, timeline_from, write_timeline
from dashboard.timeline.lanes import FEW_EVENTS, Timeline

if TYPE_CHECKING:
    from dashboard.runs import Recording

VERSION: Final = 2
"""To be raised with every change of what the file holds, of how rows are laid out, or of which
events claim time for which category (analysis/time_spent/claims.py), which it keeps the sums of. A
test fails where it was not."""
FILE: Final = "timeline.index"

_LOG: Final = logging.getLogger(__name__)


def open_timeline(
    run: Recording,
    *,
    advance: Callable[[int], object] = lambda events: None,
    few_events: int = FEW_EVENTS,
) -> Timeline:
    """The timeline of a run: built in memory if there are few events, else from the index file,
    which is made if need be. `advance` is then told how many events are done, each of them twice.
    """
    if run.event_count <= few_events or run.files is None:
        return build_timeline(run, few_events=few_events)
    found = _known(run)
    if found is not None:
        return found
    place = writable_place(run.path)
    if place is None:
        return build_timeline(run, advance=advance, few_events=few_events)
    try:
        _write(run, place / FILE, advance)
        pa.default_memory_pool().release_unused()
        return _read(run, place / FILE)
    except OSError as error:
        _LOG.warning("%s: no index is kept (%s)", place, error.strerror or error)
        return build_timeline(run, few_events=few_events)


def needs_index(run: Recording, *, few_events: int = FEW_EVENTS) -> bool:
    """Whether opening the run's timeline will take a while, since an index is to be made first."""
    return run.files is not None and run.event_count > few_events and _known(run) is None


def _known(run: Recording) -> Timeline | None:
    for place in places(run.path):
        try:
            return _read(run, place / FILE)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.info("%s: made anew (%s)", place / FILE, error)
    return None


def _write(run: Recording, path: Path, advance: Callable[[int], object]) -> None:
    with replacing(path) as part, closing(ArrayWriter(part, VERSION)) as writer:
        head = write_timeline(run, writer, advance=advance, few_events=-1)
        writer.finish({"files": run.files, **head})


def _read(run: Recording, path: Path) -> Timeline:
    """Raises BadArrayFile, KeyError or TypeError if the file is not what `_write` makes."""
    head, arrays = read_arrays(path, VERSION)
    if head["files"] != run.files:
        raise BadArrayFile(f"{path}: made of other files than there are now")
    return timeline_from(head, arrays, run.tables)
