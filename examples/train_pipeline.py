"""A small pipeline-parallel training on CPU, for demos and samples; it knows nothing of Rankscope.

    torchrun --nproc-per-node 4 examples/train_pipeline.py --schedule 1F1B --microbatches 8
    torchrun --nproc-per-node 4 examples/train_pipeline.py --tensor-parallel 2
    torchrun --nproc-per-node 4 examples/train_pipeline.py --data-parallel 2

The arithmetic is real but tiny. On top of it each microbatch sleeps (`--work-ms` forward, twice
that backward), so that four processes on few cores do not fight for the processor and the
timeline looks like one where every rank has a device of its own.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    get_schedule_class,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

V_SHAPED = ("ZBVZeroBubble", "DualPipeV")
"""Schedules in which the first rank holds the last stage, too."""


class Sleep(torch.autograd.Function):
    """The identity, which takes time: `forward` seconds, and `backward` seconds on the way back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, forward: float, backward: float) -> torch.Tensor:
        """Sleep; the shape stays."""
        ctx.seconds = backward
        time.sleep(forward)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Sleep again; the gradient stays."""
        time.sleep(ctx.seconds)
        return gradients[0], None, None


class Block(nn.Module):
    """Two linear layers and the sleep that stands for a real layer's work: `seconds` forward, and
    as long for each part of the backward, that for the input and that for the weights.
    """

    def __init__(self, width: int, seconds: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.ones(()))
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (batch, width) in and out."""
        x = x + self.down(torch.relu(self.up(x)))
        if not self.seconds:
            return x
        # Of the output, not the input: the first stage's input needs no gradient, so a sleep
        # there would have no backward, and that stage would look idle.
        x = Sleep.apply(x, self.seconds, self.seconds)
        # On the way to a parameter's gradient, so that schedules that split the backward sleep
        # this part where they do the weights.
        return x * Sleep.apply(self.scale, 0.0, self.seconds)


def main() -> None:
    """Train for a few steps and print the last loss."""
    options = parse()
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    mesh = build_mesh(options)
    stages = build_stages(options, mesh)
    schedule = build_schedule(options, stages)
    parameters = [p for stage in stages for p in stage.submod.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    holds_last = any(stage.is_last for stage in stages)
    holds_first = any(stage.is_first for stage in stages)
    replica = mesh.get_local_rank("dp") if options.data_parallel > 1 else 0
    for step in range(options.steps):
        torch.manual_seed(step + replica * options.steps)
        batch = torch.randn(options.microbatches * options.rows, options.width)
        losses: list[torch.Tensor] = []
        schedule.step(
            *([batch] if holds_first else []),
            **({"target": batch, "losses": losses} if holds_last else {}),
        )
        if options.data_parallel > 1:
            reduce_gradients(parameters, mesh["dp"].get_group())
        optimizer.step()
        optimizer.zero_grad()
    if holds_last and not any(mesh.get_local_rank(dim) for dim in mesh.mesh_dim_names[1:]):
        print(f"last loss {torch.stack(losses).mean().item():.4f}")
    if options.save:
        torch.save([p.detach() for p in parameters], f"{options.save}.{dist.get_rank()}")
    dist.destroy_process_group()


def build_mesh(options: argparse.Namespace) -> DeviceMesh:
    """Pipeline x tensor ranks, with data ranks between them if there are any."""
    sizes = {"dp": options.data_parallel, "tp": options.tensor_parallel}
    if options.data_parallel == 1:
        del sizes["dp"]
    inner = math.prod(sizes.values())
    sizes = {"pp": dist.get_world_size() // inner} | sizes
    return init_device_mesh("cpu", tuple(sizes.values()), mesh_dim_names=tuple(sizes))


def reduce_gradients(parameters: list[torch.Tensor], group: dist.ProcessGroup) -> None:
    """Average the gradients over the data ranks, all in one operation."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat, group=group)
    flat /= dist.get_world_size(group)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def build_stages(options: argparse.Namespace, mesh: Any) -> list[PipelineStage]:
    """This rank's stages: `virtual_stages` of them, round the pipeline in turn or as a V."""
    size, me = mesh["pp"].size(), mesh.get_local_rank("pp")
    count = size * options.virtual_stages
    stages = []
    layers = options.layers or count
    if layers % count:
        raise SystemExit(f"--layers {layers} do not divide into {count} stages")
    seconds = options.work_ms / 1e3
    seconds /= options.tensor_parallel if options.layers else options.virtual_stages
    v_shaped = options.schedule in V_SHAPED
    mine = (me, count - 1 - me) if v_shaped else range(me, count, size)
    for index in mine:
        slow = options.slow_factor if index == options.slow_stage else 1.0
        torch.manual_seed(index)
        blocks = [Block(options.width, seconds * slow) for _ in range(layers // count)]
        if options.tensor_parallel > 1:
            plan = {"up": ColwiseParallel(), "down": RowwiseParallel(use_local_output=True)}
            for block in blocks:
                parallelize_module(block, mesh["tp"], plan)
        module = blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)
        stages.append(
            PipelineStage(module, index, count, torch.device("cpu"), group=mesh.get_group("pp"))
        )
    return stages


def build_schedule(
    options: argparse.Namespace, stages: list[PipelineStage]
) -> PipelineScheduleSingle | PipelineScheduleMulti:
    """The schedule class of that name, over one stage or several."""
    schedule = get_schedule_class(options.schedule)
    several = issubclass(schedule, PipelineScheduleMulti)
    return schedule(
        stages if several else stages[0],
        options.microbatches,
        loss_fn=nn.functional.mse_loss,
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", default="1F1B", help="1F1B, GPipe, Interleaved1F1B, …")
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--tensor-parallel", type=int, default=1, metavar="T")
    parser.add_argument("--data-parallel", type=int, default=1, metavar="D")
    parser.add_argument("--virtual-stages", type=int, default=1, metavar="V")
    parser.add_argument(
        "--layers", type=int, metavar="L", help="of the whole model, whose work tensor ranks share"
    )
    parser.add_argument("--rows", type=int, default=16, help="rows of a microbatch")
    parser.add_argument("--width", type=int, default=64, help="features of a row")
    parser.add_argument("--work-ms", type=float, default=4.0, help="sleep per forward chunk")
    parser.add_argument("--slow-stage", type=int, default=-1, metavar="K")
    parser.add_argument("--slow-factor", type=float, default=1.5, help="its sleep, times this")
    parser.add_argument("--save", metavar="FILE", help="write the parameters to FILE.<rank>")
    return parser.parse_args()


if __name__ == "__main__":
    main()
