"""Train a small GPT-2 with `transformers.Trainer`, and record it with Rankscope's callback.

  python examples/train_transformers.py --out runs/transformers
  torchrun --nproc-per-node 2 examples/train_transformers.py --out runs/transformers-ddp

Without `--out` nothing is recorded, and the parameters are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from typing import Any

import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from collectors.live.huggingface import RankscopeCallback

WORDS, LENGTH, ROWS = 32, 8, 2


def main() -> None:
    """Train, and say what the parameters are."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = build(options, scratch)
        trainer.train()
    if trainer.is_world_process_zero():
        print(f"parameters {digest(trainer.model)}")


def build(options: argparse.Namespace, scratch: str) -> Trainer:
    """The trainer; it wants a directory even if it writes nothing."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = TrainingArguments(
        output_dir=scratch,
        use_cpu=True,
        ddp_backend="gloo" if processes > 1 else None,
        ddp_find_unused_parameters=False,
        per_device_train_batch_size=ROWS,
        num_train_epochs=options.epochs,
        gradient_accumulation_steps=options.accumulate,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    set_seed(0)
    config = GPT2Config(
        vocab_size=WORDS,
        n_positions=LENGTH,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    rows = ROWS * options.batches * processes
    data: Any = [{"input_ids": row, "labels": row} for row in torch.randint(WORDS, (rows, LENGTH))]
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data)
    trainer.remove_callback(PrinterCallback)
    if options.out:
        trainer.add_callback(RankscopeCallback(options.out))
    return trainer


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
