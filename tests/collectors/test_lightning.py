"""Lightning's trainer, recorded by our callback: real runs, and what is left of our hooks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning", reason="Lightning is not installed")

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from collectors.live import callbacks
from collectors.live.lightning import RankscopeCallback
from dashboard import open_run
from tests.support.launching import ROOT, run_python, torchrun
from tests.support.reading import Row, facts, rows

EXAMPLE = ROOT / "examples" / "train_lightning.py"
LIBRARY = ("lightning.pytorch",)
FIVE_BATCHES = ("--batches", "5", "--accumulate", "2")
"""Three steps per epoch: two of two batches, and one of the batch that is left."""


class _Model(lightning.LightningModule):
    def __init__(self, *, fails_at: int | None = None, manual: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.automatic_optimization = not manual
        self._fails_at = fails_at

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor | None:
        if batch_idx == self._fails_at:
            raise ArithmeticError("the training's own")
        loss = self.layer(batch[0]).sum()
        if self.automatic_optimization:
            return loss
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(loss, retain_graph=True)
        for optimizer in self.optimizers():
            optimizer.step()
        return None

    def configure_optimizers(self) -> Any:
        optimizers = [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]
        return optimizers[0] if self.automatic_optimization else optimizers


def _trainer(*added: Any, **options: Any) -> Any:
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=list(added),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def _batches(count: int) -> Any:
    return DataLoader(TensorDataset(torch.ones(count, 4)), batch_size=1)


def _order(found: list[Row]) -> list[tuple[str, int | None, int | None]]:
    """Kind, step and microbatch of what the trainer does by itself, by the time it ends."""
    kinds = ("data", "forward", "backward", "optimizer", "user")
    return [
        (row["kind"], row["step"], row["microbatch"])
        for row in sorted(found, key=lambda row: row["start"] + row["duration"])
        if row["kind"] in kinds
    ]


EPOCH = [
    *[("data", 0, None), ("forward", 0, 0), ("backward", 0, 0)],
    *[("data", 0, None), ("forward", 0, 1), ("backward", 0, 1), ("optimizer", 0, None)],
    *[("data", 1, None), ("forward", 1, 0), ("backward", 1, 0)],
    *[("data", 1, None), ("forward", 1, 1), ("backward", 1, 1), ("optimizer", 1, None)],
    *[("data", 2, None), ("forward", 2, 0), ("backward", 2, 0), ("optimizer", 2, None)],
    ("user", 3, None),
]
"""The validation comes after the last step, and so belongs to one that was never completed."""


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


def test_epochs_follow_each_other_and_the_validation_belongs_to_the_step_after_it(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    run_python(
        EXAMPLE, "--batches", "2", "--epochs", "2", "--out", run, preloaded=True, imported=LIBRARY
    )

    counted = Counter((row["kind"], row["step"]) for row in rows(run, 0))
    for step in range(4):
        for kind in ("step", "data", "forward", "backward", "optimizer"):
            assert counted[kind, step] == 1
    assert [(row["step"]) for row in rows(run, 0, kind="user")] == [2, 4]


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


def test_everything_is_put_back_after_the_training(tmp_path: Path) -> None:
    trainer = _trainer(RankscopeCallback(tmp_path / "run"))
    owners = (trainer.strategy, trainer.profiler)
    before = [set(vars(owner)) for owner in owners]
    trainer.fit(_Model(), _batches(3))

    assert [set(vars(owner)) & {"training_step", "start", "stop"} for owner in owners] == [
        names & {"training_step", "start", "stop"} for names in before
    ]
    assert len(rows(tmp_path / "run", 0, kind="step")) == 3


def test_an_error_of_the_training_is_passed_on_and_ends_the_recording(tmp_path: Path) -> None:
    trainer = _trainer(RankscopeCallback(tmp_path / "run"))
    with pytest.raises(ArithmeticError, match="the training's own"):
        trainer.fit(_Model(fails_at=1), _batches(3))

    assert "training_step" not in vars(trainer.strategy)
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert [row["step"] for row in rows(tmp_path / "run", 0, kind="step")] == [0]
    # The forward that raised took its time as well.
    assert [row["step"] for row in rows(tmp_path / "run", 0, kind="forward")] == [0, 1]


def test_with_manual_optimization_a_step_is_a_batch_however_many_optimizers_step(
    tmp_path: Path,
) -> None:
    _trainer(RankscopeCallback(tmp_path / "run")).fit(_Model(manual=True), _batches(2))

    per_step = Counter((row["kind"], row["step"]) for row in rows(tmp_path / "run", 0))
    expected = {"step": 1, "data": 1, "backward": 2, "optimizer": 2, "user": 1}
    assert per_step == {(kind, step): n for kind, n in expected.items() for step in (0, 1)}


def test_an_error_of_ours_ends_the_recording_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*unused: Any) -> None:
        raise LookupError("ours")

    monkeypatch.setattr(callbacks, "Work", broken)
    trainer = _trainer(RankscopeCallback(tmp_path / "run"))
    trainer.fit(_Model(), _batches(3))

    assert trainer.global_step == 3
    assert facts(tmp_path / "run", 0)["ended"] == "failed: LookupError: ours"


def test_a_callback_records_one_training_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = RankscopeCallback(tmp_path / "run")
    for _ in range(2):
        _trainer(callback).fit(_Model(), _batches(2))

    assert len(rows(tmp_path / "run", 0, kind="step")) == 2
    assert "a callback records one training" in capsys.readouterr().err


def test_options_reach_the_tracer(tmp_path: Path) -> None:
    _trainer(RankscopeCallback(tmp_path / "run", enabled=False)).fit(_Model(), _batches(2))
    assert not (tmp_path / "run").exists()
