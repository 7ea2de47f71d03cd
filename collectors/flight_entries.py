"""What an entry of torch's flight recorder says: its operation, its payload, its element type.

The recorder names operations and types as torch's C++ does; here they get the names of the trace
format, and the payload is counted as nccl-tests counts it. The reader of a running process and the
one of files share this. Source: torch/csrc/distributed/c10d/FlightRecorder.hpp of torch 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

OPS: Final = {
    "all_reduce": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "allreduce_sparse": "all_reduce",
    "broadcast": "broadcast",
    "_broadcast_oop": "broadcast",
    "reduce": "reduce",
    "_reduce_oop": "reduce",
    "all_gather": "all_gather",
    "all_gather_single": "all_gather",
    "all_gather_v": "all_gather",
    "_all_gather_base": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "ALLGATHER_coalesced": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "reduce_scatter_single": "reduce_scatter",
    "reduce_scatter_v": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "REDUCE_SCATTER_coalesced": "reduce_scatter",
    "all_to_all": "all_to_all",
    "all_to_all_single": "all_to_all",
    "all_to_all_v_single": "all_to_all",
    "gather": "gather",
    "scatter": "scatter",
    "barrier": "barrier",
    "all_reduce_barrier": "barrier",
}
"""The recorder's name of an operation, without the backend, → op."""

_COUNTS_INPUTS: Final = frozenset(
    {"reduce_scatter", "all_to_all", "gather", "reduce", "broadcast", "send"}
)
"""The operations whose inputs are the payload that nccl-tests counts; else it is the outputs."""

_DTYPES: Final = {
    "Float": ("float32", 4),
    "Double": ("float64", 8),
    "Half": ("float16", 2),
    "BFloat16": ("bfloat16", 2),
    "Byte": ("uint8", 1),
    "Char": ("int8", 1),
    "Short": ("int16", 2),
    "Int": ("int32", 4),
    "Long": ("int64", 8),
    "Bool": ("bool", 1),
    "ComplexFloat": ("complex64", 8),
    "ComplexDouble": ("complex128", 16),
    "Float8_e4m3fn": ("float8_e4m3fn", 1),
    "Float8_e5m2": ("float8_e5m2", 1),
    "Float8_e4m3fnuz": ("float8_e4m3fnuz", 1),
    "Float8_e5m2fnuz": ("float8_e5m2fnuz", 1),
    "UInt16": ("uint16", 2),
    "UInt32": ("uint32", 4),
    "UInt64": ("uint64", 8),
}
"""The recorder's name of an element type → its name in torch, and its bytes."""


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
    return OPS.get(name, name.partition(" ")[0])


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
    dtype, itemsize = _DTYPES.get(dtypes[0], (None, 0)) if dtypes and elements else (None, 0)
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
