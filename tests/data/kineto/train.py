"""What is profiled: the example's pipeline, or a DistributedDataParallel training.

    torchrun … tests/data/kineto/train.py OUT [--ddp] [options of examples/train_pipeline.py]

The profiler skips one step, warms up in one, and records the others, as users have it.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile, schedule

from examples import train_pipeline

STEPS = 5


def main() -> None:
    """Train under the profiler; rank r's trace is OUT/rank<r>.json.gz."""
    out = sys.argv.pop(1)

    def write(profiler: profile) -> None:
        profiler.export_chrome_trace(f"{out}/rank{dist.get_rank()}.json.gz")

    with profile(
        activities=[ProfilerActivity.CPU],
        schedule=schedule(skip_first=1, wait=0, warmup=1, active=STEPS - 2, repeat=1),
        on_trace_ready=write,
    ) as profiler:
        if "--ddp" in sys.argv:
            train_ddp(profiler)
        else:
            step_after_optimizer(profiler)
            train_pipeline.main()


def step_after_optimizer(profiler: profile) -> None:
    """Call `profiler.step()` at the end of each of the example's steps."""
    original = torch.optim.SGD.zero_grad

    def zero_grad(optimizer: torch.optim.SGD, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        profiler.step()

    torch.optim.SGD.zero_grad = zero_grad  # type: ignore[method-assign]


def train_ddp(profiler: profile) -> None:
    """Two linear layers in buckets of their own."""
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))
    replica = DistributedDataParallel(model, bucket_cap_mb=0.01)
    optimizer = torch.optim.AdamW(replica.parameters())
    for _ in range(STEPS):
        replica(torch.randn(16, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        profiler.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
