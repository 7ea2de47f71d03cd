"""What a device kernel is for, by its name: compute, communication, memory or synchronization.

The names are those of CUPTI and NCCL, the rules those of Holistic Trace Analysis, which judges
kernels by their names alone (its hta/utils/utils.py, version 0.5).
"""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

COMPUTE, COMMUNICATION, MEMORY, OTHER = "compute", "communication", "memory", "other"
PURPOSES: Final = (COMPUTE, COMMUNICATION, MEMORY, OTHER)

_COMMUNICATION: Final = re.compile(r"[nr]ccl.*Kernel")
_MEMORY: Final = re.compile(r"Memcpy|Memset|dma")
_OTHER: Final = re.compile(r".*Sync|.*Memcpy|Memset")

_OPERATORS: Final = " operators"
_KERNELS: Final = " kernels"


def purpose_of(name: str) -> str:
    """`ncclDevKernel_AllReduce…` → communication, `Memcpy DtoH …` → memory, `Context Sync` → other,
    anything else → compute.
    """
    if _COMMUNICATION.match(name):
        return COMMUNICATION
    if _MEMORY.match(name):
        return MEMORY
    return OTHER if _OTHER.match(name) else COMPUTE


def purposes(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """The purpose of each row, given names (dictionary-encoded)."""
    plain = names.cast(pa.string())
    unique = pc.unique(plain)
    found = pa.array([purpose_of(name) for name in unique.to_pylist()], pa.string())
    return found.take(pc.index_in(plain, unique).combine_chunks())


def device_kernels(events: pa.Table) -> pa.Table:
    """The rows of kernels and copies on a device, each with its `purpose`; needs the columns kind,
    lane and name.
    """
    rows = _on_lanes(events, "device:", _KERNELS)
    return rows.append_column("purpose", purposes(rows["name"]))


def operators(events: pa.Table) -> pa.Table:
    """The rows of operators on the host."""
    return _on_lanes(events, "host:", _OPERATORS)


def _on_lanes(events: pa.Table, start: str, end: str) -> pa.Table:
    kinds, lanes = (events[name].cast(pa.string()) for name in ("kind", "lane"))
    wanted = pc.and_(pc.equal(kinds, "kernel"), pc.starts_with(lanes, start))
    return events.filter(pc.and_(wanted, pc.ends_with(lanes, end)))
