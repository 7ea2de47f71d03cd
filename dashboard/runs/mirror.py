"""Files of an object store on the local disk, as far as they are wanted, each fetched once.

They lie in the user's cache directory under a name made of the store's address and endpoint, with
the sizes and times that they have on the store. All of it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from dashboard.runs.caches import Fingerprint, replacing
from dashboard.runs.stores import Store, place_of
from tracer.errors import TraceError

Advance = Callable[[int], object]
"""Is told of bytes that have arrived."""

OF_A_RUN: Final = re.compile(
    r"run\.json|calibration\.json|packed\.json"
    r"|rank-[0-9]{5,7}\.(json|arrows|parquet|clock\.arrows|counters\.arrows|stacks\.txt)"
)
"""The files that a run directory may hold; no other name on a store is looked at."""

_AT_ONCE: Final = 16
"""Small files take a round trip each, and a thousand ranks have a thousand of them."""


def mirror_of(store: Store) -> Path:
    """Where the files of a store are put: a directory that is called like the run."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = hashlib.sha256(place_of(store.location).encode()).hexdigest()[:32]
    return Path(base) / "rankscope" / "stores" / key / (store.name or "run")


def fetch(
    store: Store,
    seen: Fingerprint,
    names: Collection[str],
    *,
    advance: Advance = lambda count: None,
) -> Path:
    """Have the files `names` of a store, which were `seen` there, in its mirror.

    Raises:
        TraceError: the store cannot be read, or the disk not be written to.
    """
    from concurrent.futures import ThreadPoolExecutor

    directory = mirror_of(store)
    wanted = [name for name in names if name in seen and OF_A_RUN.fullmatch(name)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        missing = [name for name in wanted if not _is_here(directory / name, seen[name])]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda n: _fetch(store, directory / n, seen[n], advance), missing))
    except OSError as error:
        raise TraceError(
            f"{directory}: cannot be written to ({error.strerror or error}); files of {store} are "
            "kept there: make room, or name another place in XDG_CACHE_HOME"
        ) from error
    return directory


def forget_others(directory: Path, seen: Fingerprint) -> None:
    """Remove files from a mirror that the store has no more."""
    for path in directory.iterdir():
        if OF_A_RUN.fullmatch(path.name) and path.name not in seen:
            with contextlib.suppress(OSError):
                path.unlink()


def put(directory: Path, name: str, content: bytes, facts: list[int]) -> None:
    """A file whose content is known already, as if it had been fetched.

    Raises:
        OSError: the disk cannot be written to.
    """
    path = directory / name
    with replacing(path) as part:
        part.write_bytes(content)
        os.utime(part, ns=(facts[1], facts[1]))


def _fetch(store: Store, path: Path, facts: list[int], advance: Advance) -> None:
    with replacing(path) as part:
        with part.open("wb") as target:
            for piece in store.pieces(path.name):
                target.write(piece)
                advance(len(piece))
        os.utime(part, ns=(facts[1], facts[1]))


def _is_here(path: Path, facts: list[int]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return [found.st_size, found.st_mtime_ns] == facts
    return False
