"""What an entry of torch's flight recorder says: its operation, its payload, its element type.

The payload is counted as nccl-tests counts it. The reader of a running process and the one of files
share this. Source: torch/csrc/distributed/c10d/FlightRecorder.hpp of torch 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from collectors.torch_names import element, operation_named

_COUNTS_INPUTS: Final = frozenset(
    {"reduce_scatter", "all_to_all", "gather", "reduce", "broadcast", "send"}
)
"""The operations whose inputs are the payload that nccl-tests counts; else it is the outputs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation that a backend was asked for.

    `created` is wall-clock ns, `seq` the backend's own number of the operation in its group,
    `duration` ns on the device or None where it was not timed. `dtype` is None without payload.
    """

    record: int
    group_name: str
    group_desc: str
    op: str
    seq: int
    is_p2p: bool
    created: int
    bytes: int
    elements: int
    dtype: str | None
    duration: int | None


def operation(profiling_name: str) -> str:
    """The op of `gloo:all_reduce` or `nccl:send 0->1`; a name that is not known stays as it is."""
    name = profiling_name.partition(":")[2] or profiling_name
    return operation_named(name) or name.partition(" ")[0]


def entry_of(raw: Mapping[str, Any], group_size: int) -> Entry:
    """An entry of a dump; `group_size` tells how many shares a gather or scatter moves.

    Raises:
        KeyError: a field of every version is missing.
    """
    name, desc = raw["process_group"]
    op = operation(raw["profiling_name"])
    side = "input" if op in _COUNTS_INPUTS else "output"
    copies = group_size if op in ("gather", "scatter") else 1
    elements = sum(math.prod(size) for size in raw[f"{side}_sizes"]) * copies
    dtypes = raw[f"{side}_dtypes"] or raw["input_dtypes"]
    known = element(dtypes[0]) if dtypes and elements else None
    dtype, itemsize = known or (None, 0)
    milliseconds = raw.get("duration_ms")
    return Entry(
        record=int(raw["record_id"]),
        group_name=name,
        group_desc=desc,
        op=op,
        seq=int(raw["collective_seq_id"]),
        is_p2p=bool(raw.get("is_p2p", False)),
        created=int(raw["time_created_ns"]),
        bytes=elements * itemsize,
        elements=elements,
        dtype=dtype,
        duration=None if milliseconds is None else round(milliseconds * 1e6),
    )
