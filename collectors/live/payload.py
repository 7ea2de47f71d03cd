"""How many bytes and elements an operation moves, counted as nccl-tests counts them.

Source: nccl-tests doc/PERFORMANCE.md. The size S is the whole output of an all_gather, the
whole input of a reduce_scatter, the send buffer of an all_to_all, else the buffer itself.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import torch

Payload: TypeAlias = tuple[int, int, torch.dtype | None]
"""Bytes and elements of one operation, and the element type of its buffers."""

NO_PAYLOAD: Final[Payload] = (0, 0, None)


def nth(args: tuple[Any, ...], kwargs: dict[str, Any], index: int) -> Any:
    """An argument by position, wherever the caller put it (callers keep the declared order)."""
    return args[index] if index < len(args) else tuple(kwargs.values())[index - len(args)]


def payload(buffers: Any, copies: int = 1) -> Payload:
    """The payload of a tensor, of (nested) lists of tensors, or of nothing (None), `copies` times
    over.
    """
    while type(buffers) is list and len(buffers) == 1:
        buffers = buffers[0]
    if buffers is None:
        return NO_PAYLOAD
    if not isinstance(buffers, (list, tuple)):
        elements = buffers.numel() * copies
        return elements * buffers.element_size(), elements, buffers.dtype
    size = elements = 0
    dtype = None
    for part_size, part_elements, part_dtype in map(payload, buffers):
        size += part_size
        elements += part_elements
        dtype = dtype or part_dtype
    return size * copies, elements * copies, dtype
