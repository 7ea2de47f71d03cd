"""Train under one schedule of torch after another, each recorded with a `Tracer` of its own.

    torchrun --nproc-per-node 2 schedules.py RUNS_DIRECTORY

Also the other way round from the launcher: mesh and stages exist before the tracer does, the
schedule is handed over, and steps are told.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import PipelineScheduleMulti, get_schedule_class

from tracer import Tracer

MICROBATCHES, ROWS, WIDTH, STEPS = 4, 2, 8, 2
# The stages of each rank: round the pipeline in turn, or down one leg of a V and up the other.
IN_TURN, IN_A_V = {0: (0, 2), 1: (1, 3)}, {0: (0, 3), 1: (1, 2)}
PLACEMENTS = {
    "GPipe": {0: (0,), 1: (1,)},
    "1F1B": {0: (0,), 1: (1,)},
    "Interleaved1F1B": IN_TURN,
    "LoopedBFS": IN_TURN,
    "InterleavedZeroBubble": IN_TURN,
    "ZBVZeroBubble": IN_A_V,
    "DualPipeV": IN_A_V,
}


def main() -> None:
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("pp",))
    for name, placement in PLACEMENTS.items():
        train(name, placement, mesh, Path(sys.argv[1]) / name)
    dist.destroy_process_group()


def train(name: str, placement: dict[int, tuple[int, ...]], mesh: DeviceMesh, run: Path) -> None:
    indices = placement[mesh.get_local_rank("pp")]
    count = sum(map(len, placement.values()))
    torch.manual_seed(0)
    stages = [
        PipelineStage(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()),
            index,
            count,
            torch.device("cpu"),
            group=mesh.get_group("pp"),
        )
        for index in indices
    ]
    kind = get_schedule_class(name)
    several = issubclass(kind, PipelineScheduleMulti)
    schedule = kind(stages if several else stages[0], MICROBATCHES, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.SGD([p for stage in stages for p in stage.submod.parameters()])
    with Tracer(run, mesh=mesh, schedule=schedule, config={"schedule": name}) as t:
        for _ in range(STEPS):
            batch = torch.ones(MICROBATCHES * ROWS, WIDTH)
            inputs = [batch] if 0 in indices else []
            schedule.step(*inputs, **({"target": batch} if count - 1 in indices else {}))
            optimizer.step()
            optimizer.zero_grad()
            t.step()


if __name__ == "__main__":
    main()
