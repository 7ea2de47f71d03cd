"""Operations and element types as torch's C++ names them, in words of the trace format.

Kineto and the flight recorder, in a process or in a file, write the same names.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

_OPERATIONS: Final = (
    ("barrier", "barrier"),
    ("reducescatter", "reduce_scatter"),
    ("allreduce", "all_reduce"),
    ("allgather", "all_gather"),
    ("alltoall", "all_to_all"),
    ("broadcast", "broadcast"),
    ("gather", "gather"),
    ("scatter", "scatter"),
    ("reduce", "reduce"),
    ("send", "send"),
    ("recv", "recv"),
)
"""Part of a name → the operation, first come first: `_allgather_base` is an all_gather, no gather,
and NCCL's `all_reduce_barrier` a barrier."""

_ELEMENTS: Final[dict[str, tuple[str, int]]] = {
    "float": ("float32", 4),
    "double": ("float64", 8),
    "half": ("float16", 2),
    "bfloat16": ("bfloat16", 2),
    "byte": ("uint8", 1),
    "char": ("int8", 1),
    "short": ("int16", 2),
    "int": ("int32", 4),
    "long": ("int64", 8),
    "bool": ("bool", 1),
    "uint16": ("uint16", 2),
    "uint32": ("uint32", 4),
    "uint64": ("uint64", 8),
    "float8_e4m3fn": ("float8_e4m3fn", 1),
    "float8_e5m2": ("float8_e5m2", 1),
    "float8_e4m3fnuz": ("float8_e4m3fnuz", 1),
    "float8_e5m2fnuz": ("float8_e5m2fnuz", 1),
    "complexfloat": ("complex64", 8),
    "complexdouble": ("complex128", 16),
}
"""c10's name of an element type in small letters → torch's, and bytes of an element."""
_ELEMENTS.update({name: (name, size) for name, size in list(_ELEMENTS.values())})


@lru_cache(maxsize=1 << 12)
def operation_named(name: str) -> str | None:
    """`_reduce_scatter_base`, `c10d::allreduce_`, `nccl:send` → our name; None for others."""
    letters = re.sub(r"[^a-z]", "", name.lower().rpartition(":")[2])
    return next((ours for part, ours in _OPERATIONS if part in letters), None)


def element(dtype: Any) -> tuple[str, int] | None:
    """`Float`, `torch.bfloat16`, `BFloat16` → the name and the bytes of an element."""
    return _ELEMENTS.get(str(dtype).removeprefix("torch.").lower())
