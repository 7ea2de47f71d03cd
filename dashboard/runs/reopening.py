"""Open a run in another process, with what this one knows of it already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dashboard.runs.caches import Fingerprint
from dashboard.runs.mirror import OF_A_RUN, fetch
from dashboard.runs.open import recalled
from dashboard.runs.open_packed import is_packed, open_known
from dashboard.runs.opened import Opened
from dashboard.runs.recording import Recording
from dashboard.runs.stores import location_of, store_at
from tracer.errors import TraceError

KEPT_BYTES: Final = 512 << 20
"""Of events that a process keeps in memory: its tasks are of one rank each."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Opening:
    """source: the run's path or address. known: what opening found in the files `seen` there."""

    source: str
    seen: Fingerprint
    known: Opened


def opening_of(run: Recording) -> Opening:
    """What another process needs to open the run.

    Raises:
        TraceError: the run is not of files as a whole (it is still being recorded).
    """
    if run.files is None:
        raise TraceError(
            f"{run.source}: is still being recorded; only a finished run can be shared"
        )
    place = location_of(run.source)
    return Opening(
        source=str(place.resolve()) if isinstance(place, Path) else place,
        seen=run.files,
        known=Opened(
            run_id=run.meta.run_id,
            ranks=run.ranks,
            event_count=run.event_count,
            problems=run.problems,
            clock=run.clock,
            begin=run.begin,
            steps=run.steps,
            recorded_until=run.recorded_until,
        ),
    )


def reopened(opening: Opening) -> Recording:
    """The run; its events are read when they are asked for.

    Raises:
        TraceError: this process does not find the same files there.
    """
    store = store_at(opening.source)
    found = store.names()
    if _sizes(found) != _sizes(opening.seen):
        raise TraceError(
            f"{store}: this process finds other files there than the one that asks; workers need "
            "the run under the same path (a shared file system) or on an object store"
        )
    if is_packed(found):
        return open_known(store, found, opening.known, Recording, kept_bytes=KEPT_BYTES)
    directory = store.directory
    if directory is None:
        directory = fetch(store, found, found)
    run = recalled(opening.known, directory, Recording, found, kept_bytes=KEPT_BYTES)
    run.source = opening.source
    run.files = found
    return run


def _sizes(seen: Fingerprint) -> dict[str, int]:
    """The files of the run. Others may lie beside it, which a mirror does not have."""
    return {name: facts[0] for name, facts in seen.items() if OF_A_RUN.fullmatch(name)}
