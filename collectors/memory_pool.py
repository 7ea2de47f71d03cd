"""Where Arrow takes memory from while files are read and analysed."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

_VARIABLE: Final = "ARROW_DEFAULT_MEMORY_POOL"
_CHOSEN: Final = _VARIABLE in os.environ


@dataclass(slots=True)
class _Blocks:
    """Those that are open, in all threads, and Arrow's pool before the first of them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    before: pa.MemoryPool | None = None


_OPEN: Final = _Blocks()


def load_arrow() -> None:
    """Load Arrow with the system's allocator, unless the environment names another, or it is loaded
    already. That cannot be changed afterwards for what Arrow needs to write a batch or to compute:
    0.3 MB, for which its own allocator takes 10, since it asks for huge pages.
    """
    if not _CHOSEN and "pyarrow" not in sys.modules:
        os.environ[_VARIABLE] = "system"
        try:
            import pyarrow  # noqa: F401 - it asks now
        finally:
            os.environ.pop(_VARIABLE, None)


@contextlib.contextmanager
def from_the_system() -> Iterator[None]:
    """Arrow asks the system's allocator in the block, unless the environment names another: its own
    one holds on to 20 to 60 MB more and is no faster here (docs/measurements/hta.md). It is set for
    the whole process, which others may notice by that only: memory goes back where it came from.
    Of blocks in several threads the first one sets it, and the last one sets it back.
    """
    import pyarrow as pa

    if _CHOSEN:
        yield
        return
    with _OPEN.lock:
        if not _OPEN.count:
            _OPEN.before = pa.default_memory_pool()
            pa.set_memory_pool(pa.system_memory_pool())
        _OPEN.count += 1
    try:
        yield
    finally:
        with _OPEN.lock:
            _OPEN.count -= 1
            if not _OPEN.count:
                pa.set_memory_pool(_OPEN.before)
