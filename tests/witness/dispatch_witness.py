"""An independent list of what a process communicates: every c10d operator that is dispatched.

It shares nothing with our hooks: a `TorchDispatchMode` sees the operators themselves, with their
arguments, also those that C++ code calls (the reducer of DDP). Far too slow for users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.distributed_c10d import _resolve_process_group
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode


class Seen(NamedTuple):
    """One operation: its name as nccl-tests calls it, its members, and its payload."""

    op: str
    ranks: tuple[int, ...]
    elements: int
    dtype: str
    peer: int | None


def _first(args: tuple[Any, ...]) -> Any:
    return args[0]


def _second(args: tuple[Any, ...]) -> Any:
    return args[1]


_PAYLOADS: dict[str, tuple[str, Callable[[tuple[Any, ...]], Any]]] = {
    "c10d.allreduce_": ("all_reduce", _first),
    "c10d.allreduce_coalesced_": ("all_reduce", _first),
    "c10d.broadcast_": ("broadcast", _first),
    "c10d.reduce_": ("reduce", _first),
    "c10d.allgather_": ("all_gather", _first),
    "c10d.allgather_coalesced_": ("all_gather", _first),
    "c10d._allgather_base_": ("all_gather", _first),
    "c10d.allgather_into_tensor_coalesced_": ("all_gather", _first),
    "c10d.reduce_scatter_": ("reduce_scatter", _second),
    "c10d._reduce_scatter_base_": ("reduce_scatter", _second),
    "c10d.reduce_scatter_tensor_coalesced_": ("reduce_scatter", _second),
    "c10d.alltoall_": ("all_to_all", _second),
    "c10d.alltoall_base_": ("all_to_all", _second),
    "c10d.gather_": ("gather", _second),
    "c10d.scatter_": ("scatter", _first),
    "c10d.barrier": ("barrier", lambda args: ()),
    "c10d.send": ("send", _first),
    "c10d.recv_": ("recv", _first),
    "_c10d_functional.all_reduce": ("all_reduce", _first),
    "_c10d_functional.all_reduce_": ("all_reduce", _first),
    "_c10d_functional.all_reduce_coalesced": ("all_reduce", _first),
    "_c10d_functional.broadcast": ("broadcast", _first),
    "_c10d_functional.broadcast_": ("broadcast", _first),
    "_c10d_functional.reduce_scatter_tensor": ("reduce_scatter", _first),
    "_c10d_functional.reduce_scatter_tensor_coalesced": ("reduce_scatter", _first),
    "_c10d_functional.all_to_all_single": ("all_to_all", _first),
}
"""Operator → name and which argument holds the payload that nccl-tests counts."""

_GATHERS_FROM_ITS_SHARD = {
    "_c10d_functional.all_gather_into_tensor",
    "_c10d_functional.all_gather_into_tensor_coalesced",
}
_NO_TRAFFIC = {
    "_c10d_functional.wait_tensor",
    "_c10d_functional._wrap_tensor_autograd",
    "c10d.check_for_nan",
}


class Witness(TorchDispatchMode):
    """Counts every communication operator dispatched inside its `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Seen] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if any(issubclass(kind, (DTensor, AsyncCollectiveTensor)) for kind in types):
            # Their own dispatch comes first, so that what it communicates is seen here as well.
            return NotImplemented
        if func.namespace in ("c10d", "_c10d_functional", "_c10d_functional_autograd"):
            self._note(str(func.overloadpacket), args)
        return func(*args, **(kwargs or {}))

    def _note(self, operator: str, args: tuple[Any, ...]) -> None:
        operator = operator.replace("_c10d_functional_autograd", "_c10d_functional")
        if operator in _NO_TRAFFIC:
            return
        group = _group(args)
        ranks = tuple(sorted(dist.get_process_group_ranks(group)))
        if operator in _GATHERS_FROM_ITS_SHARD:
            op, tensors = "all_gather", list(_tensors(args[0]))
            elements = sum(t.numel() for t in tensors) * len(ranks)
        else:
            op, payload = _PAYLOADS[operator]
            tensors = list(_tensors(payload(args)))
            elements = sum(t.numel() for t in tensors)
        if op in ("gather", "scatter"):  # each rank sees its share, and the total is the size
            elements *= len(ranks)
        dtype = str(tensors[0].dtype).removeprefix("torch.") if tensors else ""
        peer = dist.get_global_rank(group, args[2]) if op in ("send", "recv") else None
        self.seen[Seen(op, ranks, elements, dtype, peer)] += 1


def _group(args: tuple[Any, ...]) -> dist.ProcessGroup:
    for argument in args:
        if isinstance(argument, torch.ScriptObject):
            return dist.ProcessGroup.unbox(argument)
    return _resolve_process_group(args[-1])


def _tensors(payload: Any) -> Iterator[torch.Tensor]:
    if isinstance(payload, torch.Tensor):
        yield payload
    else:
        for part in payload:
            yield from _tensors(part)
