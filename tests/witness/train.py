"""The same tiny training in several ways to parallelize, watched by the witness or recorded.

torchrun --nproc-per-node N train.py WAY (witness | trace | bare) DIRECTORY

Writes rank-N.parameters.bin, and the witness's list as rank-N.witness.json; a trace goes to
DIRECTORY/run. Everything is watched: building, wrapping, training, and clipping the gradients.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from tests.witness.dispatch_witness import Witness
from tracer import Tracer

WIDTH, HIDDEN, ROWS, MICROBATCHES, STEPS = 16, 32, 4, 4, 2
CPU = torch.device("cpu")


class Block(nn.Module):
    """A layer norm and two linear layers: something for each tensor-parallel style."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(self.norm(x))))


def _batch(step: int) -> torch.Tensor:
    torch.manual_seed(100 + step)
    return torch.randn(ROWS * MICROBATCHES, WIDTH)


def _finish(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Clip the parameters of each mesh by themselves: one norm cannot span two meshes."""
    by_mesh: dict[object, list[nn.Parameter]] = {}
    for parameter in parameters:
        by_mesh.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
    for together in by_mesh.values():
        nn.utils.clip_grad_norm_(together, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _plain_steps(model: nn.Module) -> nn.Module:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(STEPS):
        nn.functional.mse_loss(model(_batch(step)), _batch(step)).backward()
        _finish(optimizer, list(model.parameters()))
    return model


def _pipeline_steps(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    index, stages = mesh.get_local_rank("pp"), mesh["pp"].size()
    stage = PipelineStage(model, index, stages, CPU, group=mesh.get_group("pp"))
    schedule = Schedule1F1B(stage, MICROBATCHES, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(STEPS):
        first, last = index == 0, index == stages - 1
        schedule.step(
            *([_batch(step)] if first else []), **({"target": _batch(step)} if last else {})
        )
        _finish(optimizer, list(model.parameters()))
    return model


def _tensor_parallel(block: nn.Module, mesh: DeviceMesh) -> nn.Module:
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    return parallelize_module(block, mesh, plan)


def ddp() -> nn.Module:
    model = DistributedDataParallel(
        nn.Sequential(Block(), nn.BatchNorm1d(WIDTH), Block()), bucket_cap_mb=0.002
    )
    return _plain_steps(model)


def fsdp2() -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("dp",))
    model = nn.Sequential(Block(), Block())
    for part in (*model, model):
        fully_shard(part, mesh=mesh)
    return _plain_steps(model)


def tp() -> nn.Module:
    """Sequence-parallel norms, so that there are all_gathers and reduce_scatters as well."""
    from torch.distributed.tensor import Replicate, Shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tp",))
    model = nn.Sequential(Block(), Block())
    for block in model:
        parallelize_module(
            block,
            mesh,
            {
                "norm": SequenceParallel(sequence_dim=0),
                "up": ColwiseParallel(input_layouts=Shard(0)),
                "down": RowwiseParallel(output_layouts=Shard(0)),
            },
        )
    parallelize_module(
        model,
        mesh,
        {"": PrepareModuleInput(input_layouts=Replicate(), desired_input_layouts=Shard(0))},
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(STEPS):
        out = model(_batch(step))
        full = out.full_tensor() if isinstance(out, DTensor) else out
        full.square().mean().backward()
        _finish(optimizer, list(model.parameters()))
    return model


def pp() -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("pp",))
    return _pipeline_steps(Block(), mesh)


def tp_pp_dp() -> nn.Module:
    mesh = init_device_mesh("cpu", (2, 2, 2), mesh_dim_names=("pp", "dp", "tp"))
    block = _tensor_parallel(Block(), mesh["tp"])
    fully_shard(block, mesh=mesh["dp"])
    return _pipeline_steps(block, mesh)


WAYS: dict[str, Callable[[], nn.Module]] = {
    "ddp": ddp,
    "fsdp2": fsdp2,
    "tp": tp,
    "pp": pp,
    "tp_pp_dp": tp_pp_dp,
}


def main(way: str, watched_by: str, directory: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    watching: AbstractContextManager[Any] = nullcontext()
    if watched_by == "witness":
        watching = Witness()
    elif watched_by == "trace":
        watching = Tracer(directory / "run")
    with watching:
        model = WAYS[way]()
    if isinstance(watching, Witness):
        seen = [[*operation, count] for operation, count in watching.seen.items()]
        (directory / f"rank-{rank}.witness.json").write_text(json.dumps(seen))
    raw = b""
    for parameter in model.parameters():
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        raw += local.detach().numpy().tobytes()
    (directory / f"rank-{rank}.parameters.bin").write_bytes(raw)
    # In this order: a DDP reducer that dies after its group makes gloo's thread and this one wait
    # for each other now and then (torch 2.13, without any tracing).
    del model
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
