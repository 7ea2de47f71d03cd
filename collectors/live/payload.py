"""How many bytes and elements an operation moves, counted as nccl-tests counts them.

Source: nccl-tests doc/PERFORMANCE.md. The size S is the whole output of an all_gather, the
whole input of a reduce_scatter, the send buffer of an all_to_all, else the buffer itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch


class Payload(NamedTuple):
    """`bytes` and `elements` of one operation, and the element type of its buffers."""

    bytes: int
    elements: int
    dtype: str


def payload(buffers: Any, *, copies: int = 1) -> Payload:
    """The payload of a tensor or of (nested) lists of tensors, `copies` times over."""
    size = elements = 0
    dtype = ""
    for tensor in _tensors(buffers):
        size += tensor.numel() * tensor.element_size()
        elements += tensor.numel()
        dtype = dtype or str(tensor.dtype).removeprefix("torch.")
    return Payload(size * copies, elements * copies, dtype)


def _tensors(buffers: Any) -> Iterator[torch.Tensor]:
    if isinstance(buffers, torch.Tensor):
        yield buffers
    elif isinstance(buffers, (list, tuple)):
        for part in buffers:
            yield from _tensors(part)
