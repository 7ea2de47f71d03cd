"""Hooks on torch.distributed.pipelining: the actions of a schedule, its plan, its messages.

The methods of the stage that every schedule calls are wrapped: one chunk forward, one chunk
backward (in full, or its input part alone), the weight part alone. The send and receive lists
that a stage makes are tagged with stage and microbatch, so that the messages carry them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.distributed as dist
from torch.distributed.pipelining import schedules
from torch.distributed.pipelining.stage import _PipelineStageBase

from collectors.live.custom_actions import LABELS, Ran, record_custom_functions
from collectors.live.patches import Patches
from collectors.live.plans import plan_of, schedule_stages
from collectors.live.work import Work
from tracer.recorder import Recorder
from tracer.schema import Kind
from tracer.topology import Topology


class Pipelining:
    """Records forward and backward work of every stage and microbatch, and the plan."""

    covers = "torch.distributed.pipelining: all schedules, their actions and their plan"

    def __init__(self) -> None:
        self._patches = Patches()

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Hook the stage's methods and every schedule's `step`."""
        ran = Ran()
        for method, kind_of in (
            ("forward_one_chunk", _forward),
            ("backward_one_chunk", _backward),
            ("backward_weight_one_chunk", _backward_weight),
        ):
            self._patches.replace(_PipelineStageBase, method, _action_hook(recorder, ran, kind_of))
        for method in (
            "get_fwd_recv_ops",
            "get_bwd_recv_ops",
            "get_fwd_send_ops",
            "get_bwd_send_ops",
        ):
            self._patches.replace(_PipelineStageBase, method, _messages_hook(recorder))
        self._patches.replace(_PipelineStageBase, "__init__", _stage_hook(recorder, topology))
        recorder.describe_schedule = partial(_note_schedule, topology)
        for schedule in vars(schedules).values():
            if isinstance(schedule, type) and "step" in vars(schedule):
                self._patches.replace(schedule, "step", _step_hook(recorder, ran, topology))

    def uninstall(self) -> None:
        """Put every method back."""
        self._patches.restore()


def _forward(stage: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kind | None:
    return Kind.FORWARD


def _backward(stage: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kind | None:
    if not stage.has_backward:
        return None
    full = kwargs.get("full_backward", args[2] if len(args) > 2 else True)
    return Kind.BACKWARD if full else Kind.BACKWARD_INPUT


def _backward_weight(stage: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kind | None:
    return Kind.BACKWARD_WEIGHT if stage.has_backward else None


def _action_hook(
    recorder: Recorder,
    ran: Ran,
    kind_of: Callable[[Any, tuple[Any, ...], dict[str, Any]], Kind | None],
) -> Callable[[Any], Any]:
    def begin(
        stage: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Kind, Work] | None:
        try:
            kind = kind_of(stage, args, kwargs)
            if kind is None:
                return None
            ran.actions += 1
            return kind, Work(recorder, stage.stage_index, _chunk(args, kwargs))
        except Exception as error:
            recorder.fault(error)
            return None

    def wrap(original: Any) -> Any:
        def traced(stage: Any, *args: Any, **kwargs: Any) -> Any:
            begun = begin(stage, args, kwargs) if recorder.active else None
            if begun is None:
                return original(stage, *args, **kwargs)
            kind, work = begun
            try:
                return original(stage, *args, **kwargs)
            finally:
                try:
                    work.end(kind, LABELS[kind])
                except Exception as error:
                    recorder.fault(error)

        return traced

    return wrap


def _chunk(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The microbatch: the first parameter of every method that is hooked here."""
    return int(args[0] if args else next(iter(kwargs.values())))


def _messages_hook(recorder: Recorder) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def traced(stage: Any, *args: Any, **kwargs: Any) -> Any:
            operations = original(stage, *args, **kwargs)
            if recorder.active:
                try:
                    tag = stage.stage_index, _chunk(args, kwargs)
                    for operation in operations:
                        recorder.message_tags[id(operation.tensor)] = tag
                except Exception as error:
                    recorder.fault(error)
            return operations

        return traced

    return wrap


def _stage_hook(recorder: Recorder, topology: Topology) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def traced(stage: Any, *args: Any, **kwargs: Any) -> None:
            original(stage, *args, **kwargs)
            try:
                _note_stage(topology, stage)
            except Exception as error:
                recorder.fault(error)

        return traced

    return wrap


def _step_hook(recorder: Recorder, ran: Ran, topology: Topology) -> Callable[[Any], Any]:
    known: weakref.WeakSet[Any] = weakref.WeakSet()

    def begin(schedule: Any) -> dict[Any, Any]:
        try:
            if schedule not in known:
                known.add(schedule)
                _note_schedule(topology, schedule)
            recorder.message_tags.clear()
            if recorder.on_compute is not None:
                recorder.on_compute()
            return record_custom_functions(schedule, recorder, ran)
        except Exception as error:
            recorder.fault(error)
            return {}

    def wrap(original: Any) -> Any:
        def traced(schedule: Any, *args: Any, **kwargs: Any) -> Any:
            if not recorder.active:
                return original(schedule, *args, **kwargs)
            own_functions = begin(schedule)
            recorder.working += 1
            try:
                return original(schedule, *args, **kwargs)
            finally:
                recorder.working -= 1
                if own_functions:
                    schedule._comp_type_to_function_map.update(own_functions)

        return traced

    return wrap


def _note_stage(topology: Topology, stage: Any) -> None:
    group = stage.group if stage.group is not None else dist.group.WORLD
    topology.note_stage(stage.stage_index, dist.get_process_group_ranks(group))


def _note_schedule(topology: Topology, schedule: Any) -> None:
    for stage in schedule_stages(schedule):
        _note_stage(topology, stage)
    topology.note_schedule(plan_of(schedule))
