"""Train a small network with Lightning, and record it with Rankscope's callback.

  python examples/train_lightning.py --out runs/lightning
  torchrun --nproc-per-node 2 examples/train_lightning.py --out runs/lightning-ddp

Without `--out` nothing is recorded, and the parameters are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from collectors.live.lightning import RankscopeCallback

WIDTH, ROWS = 16, 4


class Model(lightning.LightningModule):
    """Two linear layers that learn to return their input."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH)
        )

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The loss of one batch."""
        return nn.functional.mse_loss(self.layers(batch[0]), batch[0])

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        """Only the time of it is of interest here."""
        self.layers(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    """Train, and say what the parameters are."""
    options = parse()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    lightning.seed_everything(0, verbose=False)
    model = Model()
    data = TensorDataset(torch.randn(ROWS * options.batches * processes, WIDTH))
    callbacks: list[Any] = [RankscopeCallback(options.out)] if options.out else []
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=here,
        num_nodes=processes // here,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=options.epochs,
        accumulate_grad_batches=options.accumulate,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=ROWS), DataLoader(data, batch_size=ROWS))
    if trainer.is_global_zero:
        print(f"parameters {digest(model)}")


def digest(model: nn.Module) -> str:
    """A hash of every bit of every parameter."""
    found = hashlib.sha256()
    for parameter in model.parameters():
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="record into this directory")
    parser.add_argument("--batches", type=int, default=6, help="per process and epoch")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=1, help="batches per optimizer step")
    return parser.parse_args()


if __name__ == "__main__":
    main()
