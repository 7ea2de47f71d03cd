"""Hooks on Megatron-Core: forward and backward steps, pipeline messages, names of the groups.

All schedules of Megatron call `forward_step` and `backward_step` of one module, so that these two
functions see every piece of work. A forward is told its microbatch and its model chunk; a backward
gets the very tensor that its forward made, and that tensor tells. Messages are told nothing: a
sent tensor is known likewise, and a received one is the next in the order of `Order`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final

from collectors.live.imports import Imports
from collectors.live.megatron_groups import note_groups
from collectors.live.megatron_order import (
    Order,
    StageAndMicrobatch,
    has_own_order,
    order_of,
)
from collectors.live.patches import Patches
from collectors.live.work import Work
from tracer.recorder import Recorder
from tracer.rings import NONE
from tracer.schema import Kind
from tracer.topology import Topology

_SCHEDULES: Final = "megatron.core.pipeline_parallel.schedules"
_MESSAGES: Final = "megatron.core.pipeline_parallel.p2p_communication"
_STATE: Final = "megatron.core.parallel_state"

_FORWARD_BACKWARD: Final = (
    "forward_backward_no_pipelining",
    "forward_backward_pipelining_with_interleaving",
    "forward_backward_pipelining_without_interleaving",
)


class MegatronPipeline:
    """Records what each stage of a Megatron pipeline does for each microbatch, and the plan."""

    covers = "megatron.core: forward and backward steps, pipeline messages, parallel groups"

    def __init__(self) -> None:
        self._patches = Patches()
        self._imports: Imports | None = None

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Hook the three modules, each once the training imports it."""
        pipeline = _Pipeline(recorder, topology)
        self._imports = Imports(recorder.fault)
        self._imports.when_imported(_STATE, partial(self._hook_state, recorder, topology))
        self._imports.when_imported(_MESSAGES, partial(self._hook_messages, pipeline))
        self._imports.when_imported(_SCHEDULES, partial(self._hook_schedules, pipeline))

    def uninstall(self) -> None:
        """Put everything back and wait no more."""
        if self._imports is not None:
            self._imports.restore()
        self._patches.restore()

    def _hook_state(self, recorder: Recorder, topology: Topology, state: ModuleType) -> None:
        note = partial(note_groups, topology, state)
        hook = partial(_then, recorder, note)
        self._patches.replace(state, "initialize_model_parallel", hook)
        note()

    def _hook_messages(self, pipeline: _Pipeline, messages: ModuleType) -> None:
        for function in ("_batched_p2p_ops", "_p2p_ops"):
            self._patches.replace(messages, function, pipeline.hook_messages)

    def _hook_schedules(self, pipeline: _Pipeline, schedules: ModuleType) -> None:
        for function in _FORWARD_BACKWARD:
            self._patches.replace(
                schedules, function, partial(pipeline.hook_forward_backward, schedules)
            )
        self._patches.replace(schedules, "forward_step", pipeline.hook_forward)
        self._patches.replace(schedules, "backward_step", pipeline.hook_backward)


class _Pipeline:
    """What is known of the call of a forward-backward function that is at work."""

    def __init__(self, recorder: Recorder, topology: Topology) -> None:
        self._recorder = recorder
        self._topology = topology
        self._order: Order | None = None
        self._outputs: dict[int, StageAndMicrobatch] = {}
        """By the id of a tensor that a forward made; it lives until its backward."""
        self._gradients: dict[int, StageAndMicrobatch] = {}
        self._activations_due: Iterator[StageAndMicrobatch] = iter(())
        self._gradients_due: Iterator[StageAndMicrobatch] = iter(())

    def hook_forward_backward(self, schedules: ModuleType, original: Any) -> Any:
        def traced(*args: Any, **kwargs: Any) -> Any:
            try:
                if self._recorder.active:
                    self._begin(schedules, kwargs)
            except Exception as error:
                self._recorder.fault(error)
            return original(*args, **kwargs)

        return traced

    def hook_forward(self, original: Any) -> Any:
        chunk_of = _argument(original, "vp_stage")
        microbatch_of = _argument(original, "current_microbatch")

        def at(args: tuple[Any, ...], kwargs: dict[str, Any]) -> StageAndMicrobatch:
            chunk, microbatch = chunk_of(args, kwargs), microbatch_of(args, kwargs)
            return (
                self._order.stage(chunk or 0) if self._order is not None else NONE,
                NONE if microbatch is None else int(microbatch),
            )

        def made(result: Any, work: StageAndMicrobatch) -> None:
            self._outputs.update(dict.fromkeys(map(id, _tensors(result[0])), work))

        return _step_hook(self._recorder, Kind.FORWARD, "F", at, made, original)

    def hook_backward(self, original: Any) -> Any:
        output_of = _argument(original, "output_tensor")

        def at(args: tuple[Any, ...], kwargs: dict[str, Any]) -> StageAndMicrobatch:
            known = [
                self._outputs.pop(id(output), None) for output in _tensors(output_of(args, kwargs))
            ]
            return next((work for work in known if work is not None), (NONE, NONE))

        def made(result: Any, work: StageAndMicrobatch) -> None:
            self._gradients.update(dict.fromkeys(map(id, _tensors(result)), work))

        return _step_hook(self._recorder, Kind.BACKWARD, "B", at, made, original)

    def hook_messages(self, original: Any) -> Any:
        def traced(*args: Any, **kwargs: Any) -> Any:
            if self._recorder.active:
                try:
                    self._tag(kwargs)
                except Exception as error:
                    self._recorder.fault(error)
            return original(*args, **kwargs)

        return traced

    def _begin(self, schedules: ModuleType, kwargs: dict[str, Any]) -> None:
        config, order, ranks = order_of(schedules, kwargs)
        if order != self._order:
            self._order = order
            for chunk in range(order.chunks):
                self._topology.note_stage(order.stage(chunk), ranks)
        self._outputs.clear()
        self._gradients.clear()
        self._activations_due = iter(order.activations_received())
        self._gradients_due = iter(order.gradients_received())
        if kwargs.get("forward_only", False):
            return
        if not has_own_order(config):
            self._topology.note_schedule(order.plan())
        if self._recorder.on_compute is not None:
            self._recorder.on_compute()

    def _tag(self, messages: dict[str, Any]) -> None:
        for name in (
            "tensor_send_next",
            "tensor_send_prev",
            "tensor_recv_prev",
            "tensor_recv_next",
        ):
            tensor = messages.get(name)
            work = None if tensor is None else self._work_of(name, tensor)
            if work is not None:
                self._recorder.message_tags[id(tensor)] = work

    def _work_of(self, name: str, tensor: Any) -> StageAndMicrobatch | None:
        match name:
            case "tensor_send_next":
                return self._outputs.get(id(tensor))
            case "tensor_send_prev":
                return self._gradients.pop(id(tensor), None)
            case "tensor_recv_prev":
                return next(self._activations_due, None)
            case _:
                return next(self._gradients_due, None)


def _step_hook(
    recorder: Recorder,
    kind: Kind,
    name: str,
    at: Callable[[tuple[Any, ...], dict[str, Any]], StageAndMicrobatch],
    made: Callable[[Any, StageAndMicrobatch], None],
    original: Any,
) -> Any:
    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Work | None:
        try:
            return Work(recorder, *at(args, kwargs))
        except Exception as error:
            recorder.fault(error)
            return None

    def end(work: Work, result: Any) -> None:
        try:
            work.end(kind, name)
            if result is not None:
                made(result, (work.stage, work.microbatch))
        except Exception as error:
            recorder.fault(error)

    def traced(*args: Any, **kwargs: Any) -> Any:
        work = begin(args, kwargs) if recorder.active else None
        if work is None:
            return original(*args, **kwargs)
        result = None
        try:
            result = original(*args, **kwargs)
            return result
        finally:
            end(work, result)

    return traced


def _argument(function: Any, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Gets the argument of that name from a call of `function`, None if it is not given."""
    position = list(inspect.signature(function).parameters).index(name)
    return lambda args, kwargs: args[position] if position < len(args) else kwargs.get(name)


def _tensors(value: Any) -> Sequence[Any]:
    several = value if isinstance(value, (list, tuple)) else [value]
    return [tensor for tensor in several if tensor is not None]


def _then(recorder: Recorder, after: Callable[[], None], original: Any) -> Any:
    def traced(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        try:
            after()
        except Exception as error:
            recorder.fault(error)
        return result

    return traced
