"""Read torch's flight recorder: the list of collectives that a backend was asked for.

It is on by default, keeps the last 2,000 operations of all process groups of a process
(TORCH_FR_BUFFER_SIZE), and sees also those that C++ issues without Python: the reducer of
DistributedDataParallel, and compiled code. On gloo it lists collectives alone, and of them only
when they were asked for; on NCCL also sends and receives, and how long they took where timing
is on. Source: torch/csrc/distributed/c10d/FlightRecorder.hpp of torch 2.13.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch._C import _distributed_c10d as c10d

_RECORDERS: Final = ("_dump_fr_trace", "_dump_nccl_trace")
"""Who can be asked: (with collectives, with stack traces, only what is active) → a pickle."""

_OPS: Final = {
    "all_reduce": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "allreduce_sparse": "all_reduce",
    "broadcast": "broadcast",
    "_broadcast_oop": "broadcast",
    "reduce": "reduce",
    "_reduce_oop": "reduce",
    "all_gather": "all_gather",
    "_all_gather_base": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_to_all": "all_to_all",
    "gather": "gather",
    "scatter": "scatter",
    "barrier": "barrier",
    "all_reduce_barrier": "barrier",
}
"""The recorder's name of an operation, without the backend, → op."""

_COUNTS_INPUTS: Final = frozenset({"reduce_scatter", "all_to_all", "gather", "reduce", "broadcast"})
"""The operations whose inputs are the payload that nccl-tests counts; else it is the outputs."""

_DTYPES: Final = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Float8_e4m3fn": torch.float8_e4m3fn,
    "Float8_e5m2": torch.float8_e5m2,
    "UInt16": torch.uint16,
    "UInt32": torch.uint32,
    "UInt64": torch.uint64,
}


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
    dtype: torch.dtype | None
    duration: int | None


def dump(group_sizes: Mapping[str, int]) -> dict[str, list[Entry]]:
    """What the flight recorders hold now, oldest first, by recorder; empty if switched off.

    NCCL has one of its own, and each numbers its records by itself. A torch without one gives
    nothing. `group_sizes` (members by the group's name) tells how many shares a gather or scatter
    moves.
    """
    taken = {}
    for recorder in _RECORDERS:
        ask = getattr(c10d, recorder, None)
        if ask is not None:
            held = pickle.loads(ask(True, False, False)).get("entries", ())
            taken[recorder] = [_entry(raw, group_sizes) for raw in held]
    return taken


def _entry(raw: dict[str, Any], group_sizes: Mapping[str, int]) -> Entry:
    name, desc = raw["process_group"]
    operation = raw["profiling_name"].partition(":")[2] or raw["profiling_name"]
    op = _OPS.get(operation, operation.partition(" ")[0])
    side = "input" if op in _COUNTS_INPUTS else "output"
    copies = group_sizes.get(name, 1) if op in ("gather", "scatter") else 1
    elements = sum(math.prod(size) for size in raw[f"{side}_sizes"]) * copies
    dtypes = raw[f"{side}_dtypes"] or raw["input_dtypes"]
    dtype = _DTYPES.get(dtypes[0]) if dtypes and elements else None
    milliseconds = raw.get("duration_ms")
    return Entry(
        record=int(raw["record_id"]),
        group_name=name,
        group_desc=desc,
        op=op,
        seq=int(raw["collective_seq_id"]),
        is_p2p=bool(raw.get("is_p2p", False)),
        created=int(raw["time_created_ns"]),
        bytes=0 if dtype is None else elements * dtype.itemsize,
        elements=elements,
        dtype=dtype,
        duration=None if milliseconds is None else round(milliseconds * 1e6),
    )
