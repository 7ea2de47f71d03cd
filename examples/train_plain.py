"""Train a small model in a plain PyTorch loop and record it, alone or data-parallel.

  python examples/train_plain.py --out runs/plain
  torchrun --nproc-per-node 2 examples/train_plain.py --out runs/plain-ddp

Without `--out` nothing is recorded, unless RANKSCOPE_DIR names a directory; the parameters are
the same. `-m tracer` before the script, with a script that knows nothing of Rankscope, records
the same except for the spans and counters.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tracer import Kind, Tracer

WIDTH, ROWS, STEPS = 64, 32, 6


def main() -> None:
    """Train, and say what the parameters are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the run directory to write")
    options = parser.parse_args()
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))
    parallel = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if parallel:
        dist.init_process_group("gloo")
        model = DistributedDataParallel(model)
    train(model, options.out)
    if not parallel or dist.get_rank() == 0:
        raw = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
        print(f"parameters {hashlib.sha256(raw).hexdigest()[:16]}")
    del model  # before the group that its reducer uses
    if parallel:
        dist.barrier()
        dist.destroy_process_group()


def train(model: nn.Module, out: Path | None) -> None:
    """The loop: data, forward, backward, optimizer step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with Tracer(out, config={"width": WIDTH, "rows": ROWS}) as t:

        @t.span("make a batch", kind=Kind.DATA)
        def batch(step: int) -> torch.Tensor:
            return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(step))

        for step in range(STEPS):
            loss = model(batch(step)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            t.counter("loss", loss.item())
            t.step()


if __name__ == "__main__":
    main()
