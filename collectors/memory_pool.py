"""Where Arrow takes memory from while files are read and analysed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

_CHOSEN: Final = "ARROW_DEFAULT_MEMORY_POOL" in os.environ


@contextlib.contextmanager
def from_the_system() -> Iterator[None]:
    """Arrow asks the system's allocator in the block, unless the environment names another: its own
    one holds on to 20 to 60 MB more and is no faster here (docs/measurements/hta.md). It is set for
    the whole process, which others may notice by that only: memory goes back where it came from.
    """
    before = pa.default_memory_pool()
    if not _CHOSEN:
        pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
