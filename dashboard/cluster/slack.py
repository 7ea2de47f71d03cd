"""Memory between one piece of work and the next: some is kept, and what is more goes back.

The next piece takes as much again, and each page that was given back is cleared anew by the system;
but without bound what is kept grows from piece to piece.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

_KEPT: Final = 96 << 20
"""Bytes beyond those that were left when memory was given back last."""


@dataclass(slots=True)
class _Floor:
    resident: int = 0


_FLOOR: Final = _Floor()


def give_back() -> None:
    """To be called between pieces of work."""
    if _resident() > _FLOOR.resident + _KEPT:
        pa.default_memory_pool().release_unused()
        _FLOOR.resident = _resident()


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * mmap.PAGESIZE
