"""An exercise: a training that is parallel in every way, and all that a user calls."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
import time
from pathlib import Path
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

from tests.reliability.exercise_common import (
    FLUSH_S,
    MICROBATCHES,
    WIDTH,
    Outcome,
    batch,
    bits,
    tracing,
)
from tests.reliability.stand_ins import WAITED_FOR, Graph
from tracer import Kind, Window

_STEPS = 5
"""Modules are watched in the first three, then their classes are hooked."""
_CPU = torch.device("cpu")


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

        for step in range(_STEPS):
            with t.span("data", kind=Kind.DATA):
                data = batch(step)
            said += [str(double(step)), str(halve(step))]
            for schedule, first, last in schedules if step < 2 else ():
                schedule.step(*([data] if first else []), **({"target": data} if last else {}))
            loss = nn.functional.mse_loss(plain(data), data)
            loss.backward()
            if step < 2:
                said += _communicate()
            t.counter("loss", loss)
            t.counter("rate/items_per_s", 3.5)
            optimizer.step()
            optimizer.zero_grad()
            if step == 3:
                with t.pause(), t.span("evaluation"):
                    said.append(str(float(plain(data).detach().sum())))
            t.step()
        said += _users_own_errors(t, plain)
        _second_thread(t)
        _import(scratch)
        Graph().capture_begin()
        Graph().capture_end()
        time.sleep(2 * FLUSH_S)  # so that the writer has had its turn in a training this short
    said.append(str(double(1)))
    return bits(parameters), said


def _model(scratch: Path) -> tuple[nn.Module, list[tuple[Any, bool, bool]], list[nn.Parameter]]:
    """A data-parallel model; schedules, and whether this rank has their first and last stage."""
    rank, loss = dist.get_rank(), nn.functional.mse_loss
    init_device_mesh("cpu", (2,), mesh_dim_names=("pp",))
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(5)]
    plain = DistributedDataParallel(nn.Sequential(layers[0], nn.ReLU()))
    simple = Schedule1F1B(PipelineStage(layers[1], rank, 2, _CPU), MICROBATCHES, loss_fn=loss)
    stages = [PipelineStage(layers[2 + i], rank + 2 * i, 4, _CPU) for i in range(2)]
    several = ScheduleInterleavedZeroBubble(stages, 2 * MICROBATCHES, loss_fn=loss)
    alone = PipelineStage(layers[4], 0, 1, _CPU, group=_group_of_this_rank())
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
