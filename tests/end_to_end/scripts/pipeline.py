"""Four pipeline stages, 1F1B, eight microbatches: a plain training script without any tracing.

torchrun --nproc-per-node 4 pipeline.py PARAMETERS_DIRECTORY
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

MICROBATCHES, ROWS, WIDTH, STEPS = 8, 4, 32, 3


def main() -> None:
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (4,), mesh_dim_names=("pp",))
    rank = mesh.get_local_rank("pp")
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())
    stage = PipelineStage(model, rank, 4, torch.device("cpu"), group=mesh.get_group("pp"))
    schedule = Schedule1F1B(stage, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(STEPS):
        torch.manual_seed(100 + step)
        batch = torch.randn(MICROBATCHES * ROWS, WIDTH)
        if rank == 0:
            schedule.step(batch)
        elif rank == 3:
            schedule.step(target=batch)
        else:
            schedule.step()
        optimizer.step()
        optimizer.zero_grad()
    raw = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    (Path(sys.argv[1]) / f"rank-{rank}.bin").write_bytes(raw)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
