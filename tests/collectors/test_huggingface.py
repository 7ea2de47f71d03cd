"""The trainer of transformers with our callback: real runs, and what is left of our hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

import accelerate
import torch
import transformers
from torch import nn

from collectors.live.huggingface import RankscopeCallback
from dashboard import open_run
from tests.support.launching import ROOT, run_python, torchrun
from tests.support.reading import Row, facts, rows
from tracer.errors import UsageError

EXAMPLE = ROOT / "examples" / "train_transformers.py"
LIBRARY = ("transformers.modeling_utils", "transformers.integrations", "accelerate")
FIVE_BATCHES = ("--batches", "5", "--accumulate", "2")
"""Three steps per epoch: two of two batches, and one of the batch that is left."""

EPOCH = [
    ("data", 0, None),
    *[("forward", 0, 0), ("backward", 0, 0), ("forward", 0, 1), ("backward", 0, 1)],
    *[("optimizer", 0, None), ("data", 1, None)],
    *[("forward", 1, 0), ("backward", 1, 0), ("forward", 1, 1), ("backward", 1, 1)],
    *[("optimizer", 1, None), ("data", 2, None)],
    *[("forward", 2, 0), ("backward", 2, 0), ("optimizer", 2, None)],
    ("user", 3, None),
]
"""The evaluation comes after the last step, and so belongs to one that was never completed."""


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(inputs).sum()}


class _WithItsOwnLoss(transformers.Trainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs)


class _Failing(transformers.Trainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        raise ArithmeticError("the training's own")


def _trainer(
    scratch: Path, callback: RankscopeCallback, kind: type[Any] = transformers.Trainer
) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(scratch / "scratch"),
        use_cpu=True,
        per_device_train_batch_size=1,
        num_train_epochs=1,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    data: Any = [{"inputs": torch.ones(4)}] * 3
    return kind(_Model(), arguments, train_dataset=data, callbacks=[callback])


def _entries() -> list[Any]:
    """What our hooks replace, as the classes hold it."""
    trainer = transformers.Trainer
    return [
        *[vars(trainer)[name] for name in ("compute_loss", "get_batch_samples", "evaluate")],
        vars(accelerate.Accelerator)["backward"],
        vars(_WithItsOwnLoss)["compute_loss"],
        "evaluate" in vars(_WithItsOwnLoss),
    ]


def _order(found: list[Row]) -> list[tuple[str, int | None, int | None]]:
    """Kind, step and microbatch of what the trainer does by itself, by the time it ends."""
    kinds = ("data", "forward", "backward", "optimizer", "user")
    return [
        (row["kind"], row["step"], row["microbatch"])
        for row in sorted(found, key=lambda row: row["start"] + row["duration"])
        if row["kind"] in kinds
    ]


def test_a_step_is_an_optimizer_step_and_what_it_accumulates_are_its_microbatches(
    tmp_path: Path,
) -> None:
    run, empty = tmp_path / "run", tmp_path / "empty"
    empty.mkdir()
    recorded = run_python(
        EXAMPLE, *FIVE_BATCHES, "--out", run, cwd=empty, preloaded=True, imported=LIBRARY
    )
    plain = run_python(EXAMPLE, *FIVE_BATCHES, cwd=empty, preloaded=True, imported=LIBRARY)

    assert _order(rows(run, 0)) == EPOCH
    assert [row["step"] for row in rows(run, 0, kind="step")] == [0, 1, 2]
    assert {row["name"] for row in rows(run, 0, kind="user")} == {"validation"}
    assert facts(run, 0)["ended"] == "closed"
    assert recorded.stdout.splitlines()[-1].startswith("parameters ")
    assert recorded.stdout.splitlines()[-1] == plain.stdout.splitlines()[-1]
    assert list(empty.iterdir()) == []


@pytest.mark.distributed
def test_two_processes_have_the_same_steps_and_the_same_parameters_as_without_us(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    recorded = torchrun(2, EXAMPLE, *FIVE_BATCHES, "--out", run, imported=LIBRARY)
    plain = torchrun(2, EXAMPLE, *FIVE_BATCHES, imported=LIBRARY)

    assert recorded.stdout.splitlines()[-1].startswith("parameters ")
    assert recorded.stdout.splitlines()[-1] == plain.stdout.splitlines()[-1]
    for rank in (0, 1):
        assert _order(rows(run, rank)) == EPOCH
        # One bucket of gradients per optimizer step; what is accumulated is not reduced.
        reduced = [row["step"] for row in rows(run, rank, kind="collective", name="all_reduce")]
        assert reduced == [0, 1, 2]
    opened = open_run(run)
    (counted,) = opened.sql("SELECT count(*) AS n FROM events WHERE kind = 'forward'").to_pylist()
    assert counted == {"n": 10}


def test_a_loss_of_the_users_own_that_calls_its_parents_is_one_forward(tmp_path: Path) -> None:
    before = _entries()
    trainer = _trainer(tmp_path, RankscopeCallback(tmp_path / "run"), _WithItsOwnLoss)
    trainer.train()

    assert _entries() == before
    found = rows(tmp_path / "run", 0, kind="forward")
    assert [(row["step"], row["microbatch"]) for row in found] == [(0, 0), (1, 0), (2, 0)]


def test_a_training_that_raised_is_ended_by_stop(tmp_path: Path) -> None:
    before = _entries()
    callback = RankscopeCallback(tmp_path / "run")
    with pytest.raises(ArithmeticError, match="the training's own"):
        _trainer(tmp_path, callback, _Failing).train()
    callback.stop()
    callback.stop()

    assert _entries() == before
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    _trainer(tmp_path, RankscopeCallback(tmp_path / "next")).train()
    assert len(rows(tmp_path / "next", 0, kind="step")) == 3


def test_a_directory_that_holds_a_run_is_refused_before_the_first_step(tmp_path: Path) -> None:
    _trainer(tmp_path, RankscopeCallback(tmp_path / "run")).train()
    again = _trainer(tmp_path, RankscopeCallback(tmp_path / "run"))
    with pytest.raises(UsageError):
        again.train()
    assert again.state.global_step == 0
