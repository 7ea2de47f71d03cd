"""A small training of two ranks that reaches everything of the tracer that a CPU can reach.

Each exercise is a function that trains with a tracer or with none, and returns what the user has
of it: the bits of the parameters, and every value and exception that came back from a call. Both
must be the same whatever happens inside the tracer.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.pipelining.schedules import (
    FULL_BACKWARD,
    ScheduleInterleavedZeroBubble,
    _PipelineScheduleRuntime,
)
from torch.nn.parallel import DistributedDataParallel

from collectors.live.callbacks import LoopRecording
from tests.reliability.stand_ins import MORE_COLLECTORS, WAITED_FOR, Graph, NoTracer
from tracer import Kind, Tracer, Window, environment, parts

WIDTH, ROWS, MICROBATCHES = 4, 2, 3
STEPS = 5
"""Modules are watched in the first three, then their classes are hooked."""

FLUSH_S = 0.02
CPU = torch.device("cpu")
Outcome = tuple[bytes, list[str]]
"""Bits of the parameters, and what came back from calls."""


@contextmanager
def tracing(directory: Path | None, *, hosts: int = 1, **options: Any) -> Iterator[Any]:
    """A tracer with every installed collector and the ones of devices, or none of all.

    With two hosts, rank 1 takes itself for one on another machine.
    """
    if directory is None:
        yield NoTracer()
        return
    found = parts.entry_points
    ours = [SimpleNamespace(load=lambda made=made: made) for made in MORE_COLLECTORS]
    parts.entry_points = lambda group: [*found(group=group), *ours]  # type: ignore[assignment]
    boot_id, host = environment.boot_id, dist.get_rank() % hosts
    environment.boot_id = lambda: boot_id() + ".another" * host
    try:
        with Tracer(directory, flush_interval_s=FLUSH_S, **options) as tracer:
            yield tracer
    finally:
        parts.entry_points = found  # type: ignore[assignment]
        environment.boot_id = boot_id


def parallel(directory: Path | None, scratch: Path) -> Outcome:
    """Pipelines, data parallelism, every way to communicate, and all that a user calls."""
    said: list[str] = []
    torch.manual_seed(0)
    with tracing(directory, kernels=Window(every=50, steps=1, first=1)) as t:
        plain, schedules, parameters = _model(scratch)
        optimizer = torch.optim.AdamW(parameters, lr=0.01)

        @t.span
        def double(value: int) -> int:
            return 2 * value

        @t.span("halve", kind=Kind.DATA)
        def halve(value: int) -> float:
            return value / 2

        for step in range(STEPS):
            with t.span("data", kind=Kind.DATA):
                batch = _batch(step)
            said += [str(double(step)), str(halve(step))]
            for schedule, first, last in schedules if step < 2 else ():
                schedule.step(*([batch] if first else []), **({"target": batch} if last else {}))
            loss = nn.functional.mse_loss(plain(batch), batch)
            loss.backward()
            if step < 2:
                said += _communicate()
            t.counter("loss", loss)
            t.counter("rate/items_per_s", 3.5)
            optimizer.step()
            optimizer.zero_grad()
            if step == 3:
                with t.pause(), t.span("evaluation"):
                    said.append(str(float(plain(batch).detach().sum())))
            t.step()
        said += _users_own_errors(t, plain)
        _second_thread(t)
        _import(scratch)
        Graph().capture_begin()
        Graph().capture_end()
        time.sleep(2 * FLUSH_S)  # so that the writer has had its turn in a training this short
    said.append(str(double(1)))
    return _bits(parameters), said


def automatic(directory: Path | None, scratch: Path) -> Outcome:
    """Two hosts; steps that end by themselves, of which one out of two is recorded."""
    said: list[str] = []
    torch.manual_seed(0)
    with tracing(directory, hosts=2, automatic_steps=True, every=2) as t:
        model = nn.Linear(WIDTH, WIDTH)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            model(_batch(step)).square().mean().backward()
            dist.all_reduce(model.weight.grad)
            optimizer.step()
        t.step()
        time.sleep(2 * FLUSH_S)
    return _bits(model.parameters()), said


def framework(directory: Path | None, scratch: Path) -> Outcome:
    """A loop that a framework drives, and its callback."""
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = SimpleNamespace(evaluate=lambda: str(float(model(_batch(9)).detach().sum())))
    recording = None
    if directory is not None:
        recording = LoopRecording(directory, {"flush_interval_s": FLUSH_S})
        recording.start(
            lambda patches: patches.replace(
                trainer, "evaluate", recording.wrap(Kind.USER, "validation")
            )
        )
    said = []
    for step in range(3):
        for microbatch in range(2):
            if recording is not None:
                recording.begins(Kind.FORWARD, "training_step")
            loss = model(_batch(step + microbatch)).square().mean()
            if recording is not None:
                recording.ends("training_step")
            loss.backward()
            if recording is not None:
                recording.batch_ends(stepped=microbatch == 1)
        optimizer.step()
        said.append(trainer.evaluate())
    if recording is not None:
        recording.stop()
    return _bits(model.parameters()), said


def megatron(directory: Path | None, scratch: Path) -> Outcome:
    """Megatron-Core's own schedule, with one chunk per rank."""
    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.transformer import TransformerConfig

    from examples import train_megatron

    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(pipeline_model_parallel_size=2)
    config = TransformerConfig(
        num_layers=2,
        hidden_size=train_megatron.WIDTH,
        num_attention_heads=1,
        pipeline_model_parallel_size=2,
        pipeline_dtype=torch.float32,
        use_cpu_initialization=True,
        overlap_p2p_comm=False,
        batch_p2p_comm=True,
    )
    with tracing(directory) as t, train_megatron.on_cpu():
        model = train_megatron.Chunk(config, dist.get_rank())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            get_forward_backward_func()(
                forward_step_func=train_megatron.forward,
                data_iterator=[train_megatron.data()],
                model=[model],
                num_microbatches=MICROBATCHES,
                seq_length=train_megatron.LENGTH,
                micro_batch_size=train_megatron.ROWS,
            )
            optimizer.step()
            t.step()
    return _bits(model.parameters()), []


def deepspeed(directory: Path | None, scratch: Path) -> Outcome:
    """DeepSpeed's own loop over the instructions of a schedule, of one stage that trains."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.pipe.engine import PipelineEngine
    from deepspeed.runtime.pipe.schedule import TrainSchedule

    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    said: list[str] = []

    def forward(engine: Any, buffer_id: int) -> None:
        engine.loss = model(_batch(buffer_id)).square().mean()
        said.append(str(float(engine.loss.detach())))

    does = {
        "ForwardPass": forward,
        "BackwardPass": lambda engine, buffer_id: engine.loss.backward(),
        "OptimizerStep": lambda engine: optimizer.step(),
    }
    own = PipelineEngine._INSTRUCTION_MAP
    PipelineEngine._INSTRUCTION_MAP = {
        cls: does.get(cls.__name__, lambda *unused, **also: None) for cls in own
    }
    try:
        with tracing(directory) as t:
            engine = object.__new__(PipelineEngine)  # the whole of it needs a cluster
            nn.Module.__init__(engine)
            engine.stage_id = 0
            engine._reserve_pipe_buffers = lambda buffers: None
            engine.grid = SimpleNamespace(
                pp_group=(0,), _topo=SimpleNamespace(get_axis_comm_lists=lambda axis: [[0]])
            )
            for _ in range(2):
                engine._exec_schedule(TrainSchedule(MICROBATCHES, 1, 0))
                t.step()
    finally:
        PipelineEngine._INSTRUCTION_MAP = own
    return _bits(model.parameters()), said


def black_box(directory: Path | None, scratch: Path) -> Outcome:
    """A black box that slow steps, a call, a signal and a pause without progress make write."""
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with tracing(directory, keep_last=2, slow_step_s=1e-6, hang_s=0.1) as t:
        for step in range(4):
            model(_batch(step)).square().mean().backward()
            dist.all_reduce(model.weight.grad)
            optimizer.step()
            t.step()
        t.dump("a call")
        if signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGUSR1)
        child = os.fork()
        if child == 0:
            os._exit(0)
        said = str(os.waitpid(child, 0)[1])
        dist.all_reduce(model.weight.grad)
        time.sleep(0.1 + 4 * FLUSH_S)
    return _bits(model.parameters()), [said]


EXERCISES: dict[str, Callable[[Path | None, Path], Outcome]] = {
    "parallel": parallel,
    "automatic": automatic,
    "framework": framework,
    "megatron": megatron,
    "deepspeed": deepspeed,
    "black_box": black_box,
}


def _model(scratch: Path) -> tuple[nn.Module, list[tuple[Any, bool, bool]], list[nn.Parameter]]:
    """A data-parallel model; schedules, and whether this rank has their first and last stage."""
    rank, loss = dist.get_rank(), nn.functional.mse_loss
    init_device_mesh("cpu", (2,), mesh_dim_names=("pp",))
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(5)]
    plain = DistributedDataParallel(nn.Sequential(layers[0], nn.ReLU()))
    simple = Schedule1F1B(PipelineStage(layers[1], rank, 2, CPU), MICROBATCHES, loss_fn=loss)
    stages = [PipelineStage(layers[2 + i], rank + 2 * i, 4, CPU) for i in range(2)]
    several = ScheduleInterleavedZeroBubble(stages, 2 * MICROBATCHES, loss_fn=loss)
    alone = PipelineStage(layers[4], 0, 1, CPU, group=_group_of_this_rank())
    own = _PipelineScheduleRuntime([alone], MICROBATCHES, loss_fn=loss)
    (scratch / "plan.csv").write_text("0F0,0F1,0B1,0F2,0B0,0B2\n")
    own._load_csv(str(scratch / "plan.csv"), format="compute_only")
    own.register_custom_function(FULL_BACKWARD, _own_backward)
    ends = rank == 0, rank == 1
    schedules = [(simple, *ends), (several, *ends), (own, True, True)]
    return plain, schedules, [parameter for layer in layers for parameter in layer.parameters()]


def _own_backward(action: Any, context: Any) -> None:
    """The user's own work in place of the stage's."""
    schedule = context.schedule_ref
    schedule._maybe_get_loss(schedule._stages[0], action.microbatch_index).backward()


@functools.cache
def _group_of_this_rank() -> Any:
    return [dist.new_group([rank]) for rank in range(dist.get_world_size())][dist.get_rank()]


def _batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2 * ROWS * MICROBATCHES, WIDTH, generator=generator)


def _communicate() -> list[str]:
    rank = dist.get_rank()
    world = dist.group.WORLD
    assert world is not None
    tensor = torch.arange(4.0) + rank
    said: list[Any] = []
    dist.all_reduce(tensor)
    work = dist.all_reduce(tensor, async_op=True)
    said.append(work.wait())
    gathered = [torch.empty(4) for _ in range(2)]
    dist.all_gather(gathered, tensor)
    dist.broadcast(tensor, 0)
    scattered = torch.empty(4)
    dist.scatter(scattered, gathered if rank == 0 else None, src=0)
    dist.barrier()
    with dist.distributed_c10d._coalescing_manager():
        dist.all_reduce(tensor)
        dist.all_reduce(gathered[0])
    if rank == 0:
        dist.send(tensor, 1)
        dist.recv(tensor, 1)
    else:
        dist.recv(tensor)
        dist.send(tensor, 0)
    other = torch.empty(4)
    operations = [dist.P2POp(dist.isend, tensor, 1 - rank), dist.P2POp(dist.irecv, other, 1 - rank)]
    said += [work.wait() for work in dist.batch_isend_irecv(operations)]
    reduced = functional.all_reduce(tensor, "sum", world)
    whole = functional.all_gather_single(reduced, 0, world)
    parts = functional.all_reduce_coalesced([tensor, other], "sum", world)
    said += [whole.tolist(), [part.tolist() for part in parts]]
    objects: list[Any] = [None, None]
    dist.all_gather_object(objects, {"rank": rank})
    words = ["said", rank] if rank == 0 else [None, None]
    dist.broadcast_object_list(words, 0)
    letters = ["a letter"] if rank == 0 else [None]
    if rank == 0:
        dist.send_object_list(letters, 1)
    else:
        dist.recv_object_list(letters, 0)
    said += [objects, words, letters]
    said += [tensor.tolist(), other.tolist(), scattered.tolist(), gathered[1].tolist()]
    return [str(one) for one in said]


def _users_own_errors(t: Any, model: nn.Module) -> list[str]:
    """What the user's code raises comes out as it is, also through our hooks."""
    said = []

    def in_a_span() -> None:
        with t.span("fails"):
            raise KeyError("the user's own")

    @t.span("fails too")
    def decorated() -> None:
        raise LookupError("the user's own")

    def in_a_pause() -> None:
        with t.pause():
            raise ValueError("the user's own")

    for fails in (
        in_a_span,
        decorated,
        in_a_pause,
        lambda: model(torch.ones(1, WIDTH + 1)),
        lambda: torch.autograd.backward([torch.ones(2)]),
        lambda: dist.all_reduce("no tensor"),  # type: ignore[arg-type]
        lambda: dist.distributed_c10d._get_default_group().broadcast("no tensor"),
        lambda: dist.distributed_c10d._get_default_group().send("no tensor", 0, 0),
        lambda: dist.all_gather_object([], lambda: None),
    ):
        try:
            fails()
        except Exception as error:
            said.append(f"{type(error).__name__} {str(error).splitlines()[:1]}")
        else:
            said.append("nothing raised")
    return said


def _second_thread(t: Any) -> None:
    def load() -> None:
        for _ in range(3):
            with t.span("load", kind=Kind.DATA):
                pass

    thread = threading.Thread(target=load, name="loader")
    thread.start()
    thread.join()


def _import(scratch: Path) -> None:
    (scratch / f"{WAITED_FOR}.py").write_text("imported = True\n")
    sys.path.insert(0, str(scratch))
    try:
        importlib.invalidate_caches()
        assert importlib.import_module(WAITED_FOR).imported
    finally:
        sys.path.remove(str(scratch))
        del sys.modules[WAITED_FOR]


def _bits(parameters: Any) -> bytes:
    return b"".join(parameter.detach().numpy().tobytes() for parameter in parameters)
