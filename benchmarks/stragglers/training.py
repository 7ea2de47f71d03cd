"""Four processes train and record one run after the other, each slowed down as its case says.

torchrun --nproc-per-node 4 -m benchmarks.stragglers.training DIRECTORY [CASE …]

Everything that is injected happens where it would by nature, below the tracer's hooks: work
sleeps longer, data loading sleeps in its span, garbage is collected for real. A slow link is a
wait that ends later by what the link would need more: gloo moves a message once both ends have
asked for it, and here the receiver asks right before it waits.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn.parallel import DistributedDataParallel

from benchmarks.stragglers.cases import (
    CHUNK_S,
    MICROBATCHES,
    SHAPES,
    SLOW_STEPS,
    STEPS,
    WORK_S,
    Case,
    all_cases,
)
from tracer import Kind, Tracer

ROWS, WIDTH = 2, 16
LOADING_S = 0.001
DIMENSIONS = {"pp4": ("pp",), "pp2-tp2": ("pp", "tp"), "pp2-dp2": ("pp", "dp"), "ddp4": ("dp",)}


class Slowness:
    """What the case at hand does to this rank, asked from inside the work."""

    def __init__(self) -> None:
        self.case = Case(layout="pp4")
        self.step = 0
        self.tensor_group: dist.ProcessGroup | None = None
        self.garbage: list[list[int]] = []

    @property
    def _hits(self) -> bool:
        return dist.get_rank() in self.case.ranks

    @property
    def _hits_now(self) -> bool:
        return self._hits and self.step in SLOW_STEPS

    def work(self) -> None:
        """One forward or backward of a microbatch."""
        cause = self.case.cause
        slow = (cause in ("slow rank", "slow stage") and self._hits) or (
            cause == "slow steps" and self._hits_now
        )
        time.sleep(CHUNK_S * (1 + self.case.amount * slow))

    def load(self) -> None:
        """Get the data of a step."""
        slow = self.case.cause == "data loading" and self._hits_now
        time.sleep(LOADING_S + self.case.amount * WORK_S * slow)

    def pile_up(self) -> None:
        """Before the run: make so many objects that a collection takes as long as it shall."""
        self.garbage = []
        gc.collect()
        gc.freeze()
        gc.disable()
        if self.case.cause == "garbage collection" and self._hits:
            wanted = self.case.amount * WORK_S
            while _seconds_to_collect() < wanted:
                self.garbage += [[] for _ in range(10_000)]

    def interrupt(self) -> None:
        """In the first forward of a step."""
        if self.case.cause == "garbage collection" and self._hits_now:
            gc.collect()
        if self.case.cause == "stalls" and self._hits_now:
            time.sleep(self.case.amount * WORK_S)

    def clear(self) -> None:
        """After the run."""
        self.garbage = []
        gc.enable()
        gc.unfreeze()

    def delay(self, src: int) -> float:
        """What a message from `src` takes longer, seconds."""
        slow = self.case.cause == "slow link" and self._hits and src == self.case.src
        return self.case.amount * WORK_S / MICROBATCHES * slow


def _seconds_to_collect() -> float:
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        gc.collect()
        taken.append(time.perf_counter() - start)
    return min(taken)


SLOWNESS = Slowness()


class _Sleep(torch.autograd.Function):
    """Works by sleeping, forward and backward, and sums over the tensor-parallel group."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Sleep, and sum."""
        SLOWNESS.work()
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        """The same."""
        SLOWNESS.work()
        return _summed(grads[0])


def _summed(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    if SLOWNESS.tensor_group is not None:
        dist.all_reduce(y, group=SLOWNESS.tensor_group)
    return y


class Stage(nn.Module):
    """A small layer whose time is sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One microbatch."""
        self.calls += 1
        if self.calls % MICROBATCHES == 1:
            SLOWNESS.interrupt()
        out: torch.Tensor = _Sleep.apply(torch.tanh(self.linear(x)))
        return out


def slow_down_links() -> None:
    """Let waits for messages over a slow link end later. Called before the tracer hooks in."""
    receive, wait = dist.ProcessGroup.recv, dist.Work.wait
    delays: dict[int, tuple[Any, float]] = {}

    def slow_receive(group: Any, tensors: Any, src: int, tag: int) -> Any:
        work = receive(group, tensors, src, tag)
        delay = SLOWNESS.delay(dist.get_global_rank(group, src))
        if delay:
            delays[id(work)] = work, delay
        return work

    def slow_wait(work: Any, *args: Any) -> Any:
        done = wait(work, *args)
        _, delay = delays.pop(id(work), (None, 0.0))
        if delay:
            time.sleep(delay)
        return done

    dist.ProcessGroup.recv = slow_receive
    dist.Work.wait = slow_wait


def record(case: Case, mesh: DeviceMesh, path: Path) -> None:
    """Train for `STEPS` steps as the case says, and record it."""
    SLOWNESS.case = case
    SLOWNESS.step = -1
    SLOWNESS.tensor_group = None
    if case.layout == "ddp4":
        _record_data_parallel(mesh, path)
    else:
        _record_pipeline(case, mesh, path)
    SLOWNESS.clear()
    dist.barrier()


def _record_data_parallel(mesh: DeviceMesh, path: Path) -> None:
    """As much work per step as in a pipeline, in as many layers as there are microbatches."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(Stage() for _ in range(MICROBATCHES)))
    model = DistributedDataParallel(layers, process_group=mesh.get_group("dp"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.ones(ROWS, WIDTH)
    SLOWNESS.pile_up()
    dist.barrier()
    with Tracer(path, mesh=mesh) as t:
        for step in range(STEPS):
            SLOWNESS.step = step
            with t.span("load", kind=Kind.DATA):
                SLOWNESS.load()
            nn.functional.mse_loss(model(batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            t.step()


def _record_pipeline(case: Case, mesh: DeviceMesh, path: Path) -> None:
    pipeline, _ = SHAPES[case.layout]
    other = None if case.layout == "pp4" else case.layout.removeprefix("pp2-")[:2]
    stage = mesh.get_local_rank("pp")
    SLOWNESS.tensor_group = mesh.get_group("tp") if other == "tp" else None
    torch.manual_seed(stage)
    model = Stage()
    group = mesh.get_group("pp")
    held = PipelineStage(model, stage, pipeline, torch.device("cpu"), group=group)
    schedule = Schedule1F1B(held, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.ones(MICROBATCHES * ROWS, WIDTH)
    SLOWNESS.pile_up()
    dist.barrier()
    with Tracer(path, mesh=mesh, schedule=schedule) as t:
        for step in range(STEPS):
            SLOWNESS.step = step
            with t.span("load", kind=Kind.DATA):
                SLOWNESS.load()
            if stage == 0:
                schedule.step(batch)
            elif stage == pipeline - 1:
                schedule.step(target=batch)
            else:
                schedule.step()
            if other == "dp":
                for parameter in model.parameters():
                    dist.all_reduce(parameter.grad, group=mesh.get_group("dp"))
            optimizer.step()
            optimizer.zero_grad()
            t.step()


def main() -> None:
    """Record the cases that are named, or all."""
    directory, wanted = Path(sys.argv[1]), sys.argv[2:]
    dist.init_process_group("gloo")
    slow_down_links()
    meshes = {
        layout: init_device_mesh(
            "cpu", tuple(size for size in shape if size > 1), mesh_dim_names=DIMENSIONS[layout]
        )
        for layout, shape in SHAPES.items()
    }
    for case in all_cases():
        if not wanted or case.name in wanted:
            record(case, meshes[case.layout], directory / case.name)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
