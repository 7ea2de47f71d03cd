"""Hooks on collectives of Python objects: one event each, whatever they send to carry it out.

An object travels as bytes: its size goes first, then the bytes, padded to the longest. Those
two or more operations are one thing to the user, so they are counted in their group but only
the whole is recorded, with the sum of their payloads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final

import torch
from torch.distributed import distributed_c10d

from collectors.live.operations import Operations, Part
from collectors.live.patches import Patches
from tracer.rings import NONE
from tracer.schema import Kind

_FUNCTIONS: Final = {
    "all_gather_object": Kind.COLLECTIVE,
    "broadcast_object_list": Kind.COLLECTIVE,
    "gather_object": Kind.COLLECTIVE,
    "scatter_object_list": Kind.COLLECTIVE,
    "send_object_list": Kind.SEND,
    "recv_object_list": Kind.RECV,
}


def hook_object_collectives(patches: Patches, operations: Operations) -> None:
    """Replace the functions wherever a module holds them, also under names imported before."""
    hooks = {}
    for name, kind in _FUNCTIONS.items():
        function = getattr(distributed_c10d, name, None)
        if function is not None:
            label = name if kind is Kind.COLLECTIVE else kind.label
            hooks[id(function)] = _hook(operations, kind, label)
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            # By identity: the hash of a stranger's object is a stranger's code, and may raise.
            hook = hooks.get(id(value))
            if hook is not None:
                patches.replace(module, name, hook)


def _hook(operations: Operations, kind: Kind, name: str) -> Callable[[Any], Any]:
    recorder = operations.recorder
    index = recorder.names.intern(name)

    def wrap(original: Any) -> Any:
        def traced(*args: Any, **kwargs: Any) -> Any:
            thread = get_ident()
            if not recorder.active or thread in operations.merging:
                return original(*args, **kwargs)
            start = NONE
            parts: list[Part] = []
            try:
                start = recorder.clock()
                parts = operations.merge(thread)
            except Exception as error:
                recorder.fault(error)
            try:
                return original(*args, **kwargs)
            finally:
                operations.merging.pop(thread, None)
                try:
                    end = recorder.clock()
                    operations.merged(kind, index, parts, torch.uint8, start, end)
                except Exception as error:
                    recorder.fault(error)

        return traced

    return wrap
