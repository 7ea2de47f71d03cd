"""How many bytes and elements an operation moves, counted as nccl-tests counts them.

Source: nccl-tests doc/PERFORMANCE.md. The size S is the whole output of an all_gather, the
whole input of a reduce_scatter, the send buffer of an all_to_all, else the buffer itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Payload(NamedTuple):
    """`bytes` and `elements` of one operation, and the element type of its buffers."""

    bytes: int
    elements: int
    dtype: torch.dtype | None


def payload(buffers: Any, *, copies: int = 1) -> Payload:
    """The payload of a tensor or of (nested) lists of tensors, `copies` times over."""
    while isinstance(buffers, (list, tuple)) and len(buffers) == 1:
        buffers = buffers[0]
    if not isinstance(buffers, (list, tuple)):
        elements = buffers.numel() * copies
        return Payload(elements * buffers.element_size(), elements, buffers.dtype)
    size = elements = 0
    dtype = None
    for part in map(payload, buffers):
        size += part.bytes
        elements += part.elements
        dtype = dtype or part.dtype
    return Payload(size * copies, elements * copies, dtype)
