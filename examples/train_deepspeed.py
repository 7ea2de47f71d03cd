"""Train a small stack of linear layers through DeepSpeed's pipeline engine, on CPU with gloo.

It knows nothing of Rankscope. To record it, put `-m tracer --out RUN` before it:

  torchrun --nproc-per-node 2 -m tracer --out runs/deepspeed examples/train_deepspeed.py
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.pipe import LayerSpec, PipelineModule

WIDTH, ROWS = 16, 4


def main() -> None:
    """Train, and say the loss."""
    options = parse()
    # It would compile an all-reduce in shared memory first, for minutes; gloo's does for this.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")
    torch.manual_seed(0)
    model = PipelineModule(
        [LayerSpec(nn.Linear, WIDTH, WIDTH) for _ in range(2 * dist.get_world_size())],
        num_stages=dist.get_world_size() // options.data_parallel,
        loss_fn=nn.functional.mse_loss,
        partition_method="uniform",
    )
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        config={
            "train_micro_batch_size_per_gpu": ROWS,
            "gradient_accumulation_steps": options.microbatches,
            "steps_per_print": None,
        },
    )
    batches = data()
    loss = 0.0
    for _ in range(options.steps):
        loss = float(engine.train_batch(batches))
    if dist.get_rank() == 0:
        print(f"last loss {loss:.4f}")
    if options.save:
        parameters = [p.detach() for p in model.parameters()]
        torch.save(parameters, f"{options.save}.{dist.get_rank()}")
    dist.destroy_process_group()


def data() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless microbatches of inputs and targets, the same ones in every run."""
    generator = torch.Generator().manual_seed(1)
    while True:
        inputs = torch.rand(ROWS, WIDTH, generator=generator)
        yield inputs, inputs.flip(1)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--microbatches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--data-parallel", type=int, default=1, metavar="D")
    parser.add_argument("--save", metavar="FILE", help="write the parameters to FILE.<rank>")
    return parser.parse_args()


if __name__ == "__main__":
    main()
