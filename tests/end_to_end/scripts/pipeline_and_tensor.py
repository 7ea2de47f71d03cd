"""Two pipeline stages of two tensor-parallel ranks each: a plain script without any tracing.

torchrun --nproc-per-node 4 pipeline_and_tensor.py PARAMETERS_DIRECTORY
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

MICROBATCHES, ROWS, WIDTH, HIDDEN, STEPS = 4, 4, 32, 64, 3


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


def main() -> None:
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "tp"))
    index = mesh.get_local_rank("pp")
    torch.manual_seed(index)
    model = Mlp()
    parallelize_module(model, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    stage = PipelineStage(model, index, 2, torch.device("cpu"), group=mesh.get_group("pp"))
    schedule = Schedule1F1B(stage, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(STEPS):
        torch.manual_seed(100 + step)
        batch = torch.randn(MICROBATCHES * ROWS, WIDTH)
        if index == 0:
            schedule.step(batch)
        else:
            schedule.step(target=batch)
        optimizer.step()
        optimizer.zero_grad()
    raw = b"".join(p.detach().to_local().numpy().tobytes() for p in model.parameters())
    (Path(sys.argv[1]) / f"rank-{dist.get_rank()}.bin").write_bytes(raw)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
