"""The hook around the collectives of `ProcessGroup`, the one that trainings call most.

Between two collectives the training works for so long that our code is in no cache any more. Each
function and each object that is one more to fetch then costs several times what it costs in a loop,
so the usual case stands here in one piece: a single plain tensor, in a group of which nothing else
is to be known (`Operations.plain`). Everything else goes through `Operations.collective`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

from collectors.live.operations import Operations
from collectors.live.payload import nth
from tracer.rings import NONE, RECORD_BYTES, Operation, pack_operation, pack_operation_event
from tracer.schema import Kind

_NO_PAYLOAD: Final = -1
_COLLECTIVE: Final = int(Kind.COLLECTIVE)
COLLECTIVES: Final[dict[str, tuple[str, int]]] = {
    "allreduce": ("all_reduce", 0),
    "allreduce_coalesced": ("all_reduce", 0),
    "broadcast": ("broadcast", 0),
    "reduce": ("reduce", 0),
    "allgather": ("all_gather", 0),
    "allgather_coalesced": ("all_gather", 0),
    "_allgather_base": ("all_gather", 0),
    "all_gather_single": ("all_gather", 0),
    "all_gather_single_coalesced": ("all_gather", 0),
    "allgather_into_tensor_coalesced": ("all_gather", 0),
    "reduce_scatter": ("reduce_scatter", 1),
    "_reduce_scatter_base": ("reduce_scatter", 1),
    "reduce_scatter_single": ("reduce_scatter", 1),
    "reduce_scatter_single_coalesced": ("reduce_scatter", 1),
    "reduce_scatter_tensor_coalesced": ("reduce_scatter", 1),
    "alltoall": ("all_to_all", 1),
    "alltoall_base": ("all_to_all", 1),
    "all_to_all_single": ("all_to_all", 1),
    "gather": ("gather", 1),
    "scatter": ("scatter", 0),
    "barrier": ("barrier", _NO_PAYLOAD),
}
"""Method of ProcessGroup → op, and the index of the argument that is the payload."""

_SHARES: Final = frozenset({"gather", "scatter"})
"""Their payload is one rank's share, since only the root has the whole; the total is n shares."""


def collective_hook(operations: Operations, op: str, argument: int) -> Callable[[Any], Any]:
    """What makes a method of `ProcessGroup` record itself as `op`; its payload is argument
    `argument`, counted from behind the group.
    """
    recorder = operations.recorder
    clock, local, next_correlation = recorder.clock, recorder.local, recorder.next_correlation
    name = recorder.names.intern(op)
    works, dtypes = operations.works, operations.dtypes
    counts_shares = op in _SHARES
    place = argument + 1  # behind the group
    # Empty where the usual case is another one.
    plain = {} if counts_shares or argument < 0 else operations.plain
    Tensor = torch.Tensor  # noqa: N806 - not looked up in a module each time

    def in_general(
        args: tuple[Any, ...], kwargs: dict[str, Any], start: int, end: int
    ) -> Operation | None:
        group = args[0]
        buffers = None if argument < 0 else nth(args, kwargs, place)
        copies = group.size() if counts_shares else 1
        operation = operations.collective(name, group, buffers, copies, start, end)
        operations.note_plain(group)
        return operation

    def wrap(original: Any) -> Any:
        # The group is not named, since putting it in front of the others again copies them.
        def traced(*args: Any, **kwargs: Any) -> Any:
            if not recorder.active:
                return original(*args, **kwargs)
            try:
                mark = None if recorder.device is None else recorder.device.mark()
                start = clock()
            except Exception as error:
                recorder.fault(error)
                mark, start = None, NONE
            work = original(*args, **kwargs) if kwargs else original(*args)
            try:
                end = clock()
                try:
                    group = plain[id(args[0])]
                    tensor = args[place]
                    if type(tensor) is list and len(tensor) == 1:
                        tensor = tensor[0]
                    dtype, item = dtypes[tensor.dtype if type(tensor) is Tensor else None]
                except LookupError:
                    operation = in_general(args, kwargs, start, end)
                else:
                    elements = tensor.numel()
                    seq = group.calls
                    group.calls = seq + 1
                    operation = pack_operation(
                        name,
                        recorder.stage,
                        recorder.microbatch,
                        group.index,
                        seq,
                        elements * item,
                        elements,
                        next_correlation(),
                        NONE,
                        NONE,
                        dtype,
                    )
                    # `Recorder.emit_operation` written out.
                    if recorder.active and not recorder.paused:
                        try:
                            lap = local.lap
                        except AttributeError:
                            lap = recorder.add_ring()
                        at = lap.at
                        if at == lap.end:
                            lap, at = recorder.next_lap(), 0
                        pack_operation_event(
                            lap.data,
                            at,
                            start,
                            end - start,
                            recorder.step,
                            _COLLECTIVE,
                            1,
                            operation,
                        )
                        lap.at = at + RECORD_BYTES
                if work is not None and operation is not None:
                    works[id(work)] = (operation,)
                    if mark is not None and recorder.device is not None:
                        recorder.device.issued(mark, _COLLECTIVE, operation)
            except Exception as error:
                recorder.fault(error)
            return work

        return traced

    return wrap
