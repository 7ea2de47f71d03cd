"""Hooks on communication: the methods of `ProcessGroup`, the functional operators, and waits.

Two layers do not see each other's calls, so that each operation is recorded once:

* methods of the `ProcessGroup` class serve `torch.distributed.*`, p2p, pipelining and FSDP2,
  also through names that were imported before;
* the operators of `torch.ops._c10d_functional` serve functional collectives and DTensor, forward
  and backward, and go to C++ directly.

What C++ issues itself (the reducer of DDP) passes neither; docs/support.md says so.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, Final

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.distributed import distributed_c10d

from collectors.live.collectives import COLLECTIVES, collective_hook
from collectors.live.objects import hook_object_collectives
from collectors.live.operations import Operations
from collectors.live.patches import OperatorFunction, Patches
from collectors.live.payload import nth, payload
from tracer.recorder import Recorder
from tracer.rings import NONE, Operation
from tracer.schema import Kind
from tracer.topology import Topology

_COLLECTIVE: Final = int(Kind.COLLECTIVE)
_WAIT: Final = int(Kind.WAIT)
_FUNCTIONAL: Final[dict[str, str]] = {
    "all_reduce": "all_reduce",
    "all_reduce_": "all_reduce",
    "all_reduce_coalesced": "all_reduce",
    "all_reduce_coalesced_": "all_reduce",
    "all_gather_into_tensor": "all_gather",
    "all_gather_into_tensor_out": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "reduce_scatter_tensor": "reduce_scatter",
    "reduce_scatter_tensor_out": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_to_all_single": "all_to_all",
    "broadcast": "broadcast",
    "broadcast_": "broadcast",
}
"""Operator of _c10d_functional → op. The input is argument 0, the group the last one."""


class Communication:
    """Records every collective, send and receive that passes through Python, and its wait."""

    covers = "torch.distributed, functional collectives, DTensor, FSDP2, pipelining p2p"

    def __init__(self) -> None:
        self._patches = Patches()

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Hook the two layers and the waits."""
        operations = Operations(recorder, topology)
        recorder.on_flush.append(operations.forget_oldest)
        self._hook_process_groups(operations)
        hook_object_collectives(self._patches, operations)
        self._patches.replace(dist.Work, "wait", _wait_hook(operations))
        for name, op in _FUNCTIONAL.items():
            for operator in _operators(name):
                self._patches.replace(operator, "_op", _functional_hook(operations, op))
        for operator in _operators("wait_tensor"):
            self._patches.replace(operator, "_op", _wait_tensor_hook(operations))

    def _hook_process_groups(self, operations: Operations) -> None:
        methods = {
            method: collective_hook(operations, op, argument)
            for method, (op, argument) in COLLECTIVES.items()
        } | {
            "send": _message_hook(operations, Kind.SEND, names_peer=True),
            "recv": _message_hook(operations, Kind.RECV, names_peer=True),
            "recv_anysource": _message_hook(operations, Kind.RECV, names_peer=False),
            "_start_coalescing": _start_coalescing_hook(operations),
            "_end_coalescing": _end_coalescing_hook(operations),
        }
        for method, hook in methods.items():
            self._patches.replace(dist.ProcessGroup, method, hook)

    def uninstall(self) -> None:
        """Put every method and operator back."""
        self._patches.restore()


def _operators(name: str) -> list[Any]:
    """The operator of this name and its overloads; empty if this torch has none."""
    packet = getattr(torch.ops._c10d_functional, name, None)
    if packet is None:
        return []
    return [packet, *(getattr(packet, overload) for overload in packet.overloads())]


def _message_hook(operations: Operations, kind: Kind, *, names_peer: bool) -> Callable[[Any], Any]:
    recorder = operations.recorder
    clock = recorder.clock
    name = recorder.names.intern(kind.label)
    works = operations.works

    def wrap(original: Any) -> Any:
        def traced(*args: Any, **kwargs: Any) -> Any:
            if not recorder.active:
                return original(*args, **kwargs)
            try:
                mark = None if recorder.device is None else recorder.device.mark()
                start = clock()
            except Exception as error:
                recorder.fault(error)
                mark, start = None, NONE
            work = original(*args, **kwargs)
            try:
                end = clock()
                tensors = nth(args, kwargs, 1)
                peer = nth(args, kwargs, 2) if names_peer else -1
                tag = recorder.message_tags.pop(id(tensors[0]), None)
                moved = payload(tensors)
                operation = operations.message(kind, name, args[0], peer, moved, tag, start, end)
                if work is not None and operation is not None:
                    works[id(work)] = (operation,)
                    if mark is not None and recorder.device is not None:
                        recorder.device.issued(mark, kind, operation)
            except Exception as error:
                recorder.fault(error)
            return work

        return traced

    return wrap


def _start_coalescing_hook(operations: Operations) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def traced(group: dist.ProcessGroup, *args: Any, **kwargs: Any) -> Any:
            result = original(group, *args, **kwargs)
            if operations.recorder.active:
                try:
                    operations.open_batch(group)
                except Exception as error:
                    operations.recorder.fault(error)
            return result

        return traced

    return wrap


def _end_coalescing_hook(operations: Operations) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def traced(group: dist.ProcessGroup, *args: Any, **kwargs: Any) -> Any:
            work = original(group, *args, **kwargs)
            if operations.recorder.active:
                try:
                    operations.close_batch(group, work)
                except Exception as error:
                    operations.recorder.fault(error)
            return work

        return traced

    return wrap


def _wait_hook(operations: Operations) -> Callable[[Any], Any]:
    recorder = operations.recorder
    clock = recorder.clock
    emit_operation = recorder.emit_operation
    works = operations.works

    def wrap(original: Any) -> Any:
        def wait(*args: Any, **kwargs: Any) -> Any:
            pending = works.pop(id(args[0]), None) if recorder.active else None
            if pending is None:
                return original(*args, **kwargs)
            try:
                mark = None if recorder.device is None else recorder.device.mark()
                start = clock()
            except Exception as error:
                recorder.fault(error)
                mark, start = None, NONE
            try:
                return original(*args, **kwargs)
            finally:
                try:
                    end = clock()
                    for operation in pending:
                        emit_operation(_WAIT, start, end - start, operation)
                    if mark is not None and recorder.device is not None:
                        recorder.device.waited(mark, pending)
                except Exception as error:
                    recorder.fault(error)

        return wait

    return wrap


def _functional_hook(operations: Operations, op: str) -> Callable[[Any], Any]:
    recorder = operations.recorder
    clock = recorder.clock
    name = recorder.names.intern(op)
    gathers = op == "all_gather"
    tensors = operations.tensors

    def wrap(original: Any) -> Any:
        def traced(*args: Any, **kwargs: Any) -> Any:
            thread = get_ident()
            if not recorder.active or thread in operations.inside:
                return original(*args, **kwargs)
            try:
                mark = None if recorder.device is None else recorder.device.mark()
                start = clock()
            except Exception as error:
                recorder.fault(error)
                mark, start = None, NONE
            operations.inside.add(thread)
            try:
                result = original(*args, **kwargs)
            finally:
                operations.inside.discard(thread)
            try:
                end = clock()
                buffers = nth(args, kwargs, 0)
                if not _holds_no_data(buffers):
                    named = kwargs["group_name"] if "group_name" in kwargs else args[-1]
                    group = _process_group(named)
                    copies = group.size() if gathers else 1
                    operation = operations.collective(name, group, buffers, copies, start, end)
                    if operation is not None:
                        tensors[_storage(result)] = (operation,)
                        if mark is not None and recorder.device is not None:
                            recorder.device.issued(mark, _COLLECTIVE, operation)
            except Exception as error:
                recorder.fault(error)
            return result

        return OperatorFunction(original, traced)

    return wrap


def _wait_tensor_hook(operations: Operations) -> Callable[[Any], Any]:
    recorder = operations.recorder
    clock = recorder.clock

    def wrap(original: Any) -> Any:
        def traced(*args: Any, **kwargs: Any) -> Any:
            if not recorder.active:
                return original(*args, **kwargs)
            try:
                pending = _waited_tensor(operations, nth(args, kwargs, 0))
                if pending:
                    mark = None if recorder.device is None else recorder.device.mark()
                    start = clock()
            except Exception as error:
                recorder.fault(error)
                pending = ()
            if not pending:
                return original(*args, **kwargs)
            try:
                return original(*args, **kwargs)
            finally:
                try:
                    end = clock()
                    for operation in pending:
                        recorder.emit_operation(_WAIT, start, end - start, operation)
                    if mark is not None and recorder.device is not None:
                        recorder.device.waited(mark, pending)
                except Exception as error:
                    recorder.fault(error)

        return OperatorFunction(original, traced)

    return wrap


def _waited_tensor(operations: Operations, tensor: Any) -> tuple[Operation, ...]:
    return () if _holds_no_data(tensor) else operations.tensors.pop(_storage(tensor), ())


def _process_group(named: Any) -> dist.ProcessGroup:
    if isinstance(named, str):
        named = distributed_c10d._resolve_process_group(named)  # type: ignore[attr-defined,arg-type]
    elif isinstance(named, torch.ScriptObject):
        named = dist.ProcessGroup.unbox(named)
    group: dist.ProcessGroup = named
    return group


def _holds_no_data(value: Any) -> bool:
    """Compilers and shape inference run operators without data: nothing is communicated then."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return isinstance(first, (FakeTensor, FunctionalTensor)) or first.is_meta


def _storage(result: Any) -> int:
    """What `wait_tensor` and the call that made the tensor have in common."""
    first = result[0] if isinstance(result, (list, tuple)) else result
    return int(first.untyped_storage()._cdata)
