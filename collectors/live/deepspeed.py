"""Hooks on DeepSpeed's `PipelineEngine`: the instructions that it executes, and their plan.

An instruction names a buffer, not a microbatch, and buffers are used again and again. But every
kind of instruction goes through the microbatches in order, so that the n-th forward (or receive,
or backward) of a batch is that of microbatch n.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from torch.optim.optimizer import register_optimizer_step_post_hook

from collectors.live.imports import Imports
from collectors.live.patches import Patches
from collectors.live.work import Work
from tracer.recorder import Recorder
from tracer.rings import NONE
from tracer.run_files import SchedulePlan
from tracer.schema import Kind
from tracer.topology import Topology

_ENGINE_MODULE: Final = "deepspeed.runtime.pipe.engine"
_RECORDED: Final[dict[str, tuple[Kind, str]]] = {
    "ForwardPass": (Kind.FORWARD, "F"),
    "BackwardPass": (Kind.BACKWARD, "B"),
    "LoadMicroBatch": (Kind.DATA, "LoadMicroBatch"),
    "ReduceGrads": (Kind.USER, "ReduceGrads"),
    "ReduceTiedGrads": (Kind.USER, "ReduceTiedGrads"),
}
"""Instruction → kind and name of its event. The others send and receive, which is recorded where
it happens, or step the optimizer."""

_OF_ONE_MICROBATCH: Final = frozenset(
    {
        "ForwardPass",
        "BackwardPass",
        "LoadMicroBatch",
        "SendActivation",
        "RecvActivation",
        "SendGrad",
        "RecvGrad",
    }
)
_PLAN_LETTERS: Final = {"ForwardPass": "F", "BackwardPass": "B"}
_DIMENSIONS: Final = {"pipe": "pp", "data": "dp", "model": "tp"}
"""DeepSpeed's names of the axes of its process grid → the usual short ones."""


class DeepSpeedPipeline:
    """Records what each stage of DeepSpeed's pipeline does for each microbatch, and the plan."""

    covers = "deepspeed.runtime.pipe: instructions of PipelineEngine, their plan and messages"

    def __init__(self) -> None:
        self._patches = Patches()
        self._imports: Imports | None = None

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Hook the engine once the training imports it."""
        self._imports = Imports(recorder.fault)
        self._imports.when_imported(
            _ENGINE_MODULE, lambda module: self._hook(module, recorder, topology)
        )

    def uninstall(self) -> None:
        """Put everything back and wait no more."""
        if self._imports is not None:
            self._imports.restore()
        self._patches.restore()

    def _hook(self, module: ModuleType, recorder: Recorder, topology: Topology) -> None:
        engine = module.PipelineEngine
        batch = _Batch(recorder, topology, module.schedule.TrainSchedule)
        self._patches.replace(engine, "_INSTRUCTION_MAP", batch.hook_instructions)
        self._patches.replace(engine, "_exec_schedule", batch.hook_schedule)
        self._patches.replace(engine, "train_batch", _train_batch_hook(recorder))


class _Batch:
    """What is known of the batch that an engine works on: how far each instruction has come."""

    def __init__(self, recorder: Recorder, topology: Topology, train_schedule: type) -> None:
        self._recorder = recorder
        self._topology = topology
        self._train_schedule = train_schedule
        self._done: Counter[str] = Counter()
        self._described: weakref.WeakSet[Any] = weakref.WeakSet()
        self._planned: tuple[Any, ...] = ()

    def hook_instructions(self, functions: dict[type, Any]) -> dict[type, Any]:
        return {
            instruction: (
                self._optimizer_hook(function)
                if instruction.__name__ == "OptimizerStep"
                else self._instruction_hook(instruction.__name__, function)
            )
            for instruction, function in functions.items()
        }

    def hook_schedule(self, original: Any) -> Any:
        def traced(engine: Any, schedule: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                if self._recorder.active:
                    self._begin(engine, schedule)
            except Exception as error:
                self._recorder.fault(error)
            return original(engine, schedule, *args, **kwargs)

        return traced

    def _begin(self, engine: Any, schedule: Any) -> None:
        self._done.clear()
        if engine not in self._described:
            self._described.add(engine)
            _note_grid(self._topology, engine)
        if isinstance(schedule, self._train_schedule):
            self._note_plan(schedule)

    def _note_plan(self, schedule: Any) -> None:
        planned = type(schedule), schedule.num_micro_batches, schedule.num_stages
        if planned != self._planned:
            self._planned = planned
            self._topology.note_schedule(plan_of(schedule))

    def _instruction_hook(self, instruction: str, original: Any) -> Any:
        recorder = self._recorder
        kind, name = _RECORDED.get(instruction, (None, ""))

        def traced(engine: Any, *args: Any, **kwargs: Any) -> Any:
            work = None
            try:
                if recorder.active:
                    work = self._work(engine, instruction)
            except Exception as error:
                recorder.fault(error)
            try:
                return original(engine, *args, **kwargs)
            finally:
                try:
                    if work is not None:
                        work.end(kind, name)
                except Exception as error:
                    recorder.fault(error)

        return traced

    def _optimizer_hook(self, original: Any) -> Any:
        """A step that reaches an optimizer of torch is recorded there, others are here.

        Others: one that DeepSpeed skips after an overflow, or an optimizer that is none of torch.
        """
        recorder = self._recorder

        def traced(engine: Any, *args: Any, **kwargs: Any) -> Any:
            work = handle = None
            steps: list[str] = []
            try:
                if recorder.active:
                    work = self._work(engine, "OptimizerStep")
                    handle = _note_torch_steps(steps)
            except Exception as error:
                recorder.fault(error)
            try:
                return original(engine, *args, **kwargs)
            finally:
                try:
                    if handle is not None:
                        handle.remove()
                    if work is not None:
                        work.end(None if steps else Kind.OPTIMIZER, "OptimizerStep")
                        if not steps and recorder.on_optimizer is not None:
                            recorder.on_optimizer()
                except Exception as error:
                    recorder.fault(error)

        return traced

    def _work(self, engine: Any, instruction: str) -> Work:
        microbatch = NONE
        if instruction in _OF_ONE_MICROBATCH:
            microbatch = self._done[instruction]
            self._done[instruction] += 1
        return Work(self._recorder, engine.stage_id, microbatch)


def plan_of(schedule: Any) -> SchedulePlan:
    """What every stage does in a batch, from DeepSpeed's own schedule class.

    `TrainSchedule` is one forward, one backward, so that it goes by torch's name for it.
    """
    stages, microbatches = schedule.num_stages, schedule.num_micro_batches
    cls = type(schedule)
    return SchedulePlan(
        name="Schedule1F1B" if cls.__name__ == "TrainSchedule" else cls.__name__,
        stages=stages,
        microbatches=microbatches,
        virtual_stages=1,
        pipeline_size=stages,
        plan={s: tuple(_actions(cls(microbatches, stages, s), s)) for s in range(stages)},
    )


def _actions(schedule: Any, stage: int) -> Iterator[str]:
    done: Counter[str] = Counter()
    for instructions in schedule.steps():
        for instruction in instructions:
            letter = _PLAN_LETTERS.get(type(instruction).__name__)
            if letter is not None:
                yield f"{stage}{letter}{done[letter]}"
                done[letter] += 1


def _note_torch_steps(steps: list[str]) -> Any:
    """Append the name of each optimizer of torch that steps, until the handle is removed."""
    return register_optimizer_step_post_hook(
        lambda optimizer, args, kwargs: steps.append(type(optimizer).__name__)
    )


def _note_grid(topology: Topology, engine: Any) -> None:
    for axis, name in _DIMENSIONS.items():
        for ranks in engine.grid._topo.get_axis_comm_lists(axis):
            if topology.rank in ranks:
                topology.note_group(name, ranks)
    topology.note_stage(engine.stage_id, engine.grid.pp_group)


def _train_batch_hook(recorder: Recorder) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def traced(engine: Any, *args: Any, **kwargs: Any) -> Any:
            if recorder.active and recorder.on_compute is not None:
                try:
                    recorder.on_compute()
                except Exception as error:
                    recorder.fault(error)
            return original(engine, *args, **kwargs)

        return traced

    return wrap
