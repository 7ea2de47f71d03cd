"""Open a run wherever it lies: as recorded or packed, on a disk or on an object store."""

from __future__ import annotations

import os
from pathlib import Path

from collectors.memory_pool import from_the_system
from dashboard.runs.mirror import OF_A_RUN, Advance, fetch, forget_others
from dashboard.runs.open import AnyRecording, open_recording
from dashboard.runs.open_packed import is_packed, open_packed
from dashboard.runs.stores import location_of, store_at
from tracer.errors import TraceError


@from_the_system()
def open_anywhere(
    location: str | os.PathLike[str],
    make: type[AnyRecording],
    *,
    advance: Advance = lambda count: None,
) -> AnyRecording:
    """Open the run at a path, or at an address such as `s3://bucket/run`.

    Of a packed run only what is asked for is fetched. The streams of a recording cannot be read in
    part: from a store they are copied once into the user's cache directory, and read there.
    `advance` is told of bytes that have arrived.

    Raises:
        UsageError: the address makes no sense.
        TraceError: there is no such run, or the store cannot be read.
        NewerFormat: a newer Rankscope wrote it.
    """
    place = location_of(location)
    if isinstance(place, Path):
        if not (place.is_dir() and is_packed({path.name for path in place.iterdir()})):
            return open_recording(place, make)
        store = store_at(place)
        return open_packed(store, store.names(), make, advance=advance)
    store = store_at(place)
    seen = store.names()
    if is_packed(seen):
        return open_packed(store, seen, make, advance=advance)
    if not any(OF_A_RUN.fullmatch(name) for name in seen):
        raise TraceError(f"{store}: no run is there; check the address")
    directory = fetch(store, seen, seen, advance=advance)
    forget_others(directory, seen)
    run = open_recording(directory, make)
    run.source = place
    return run
