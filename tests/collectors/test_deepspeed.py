"""DeepSpeed's pipeline engine: what it did in real processes, and our hooks on its real class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")

from deepspeed.runtime.pipe import schedule as deepspeed_schedule
from deepspeed.runtime.pipe.engine import PipelineEngine

from collectors.live.deepspeed import DeepSpeedPipeline, plan_of
from collectors.live.optimizer import Optimizers
from collectors.live.plans import one_forward_one_backward_order
from tests.support.launching import ROOT, record, torchrun
from tests.support.reading import Row, calls, facts, meta, rows
from tracer import Tracer

EXAMPLE = ROOT / "examples" / "train_deepspeed.py"
MICROBATCHES, STEPS, STEP = 4, 3, 1
"""The step is the second one: in its first step DeepSpeed also exchanges shapes."""
ARGUMENTS = ("--steps", str(STEPS), "--microbatches", str(MICROBATCHES))
MESSAGE_BYTES = 4 * 16 * 4
"""4 rows of 16 float32."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("deepspeed")
    record(
        directory / "run", EXAMPLE, [*ARGUMENTS, "--save", directory / "parameters"], processes=2
    )
    return directory


@pytest.fixture(scope="module")
def run(recorded: Path) -> Path:
    return recorded / "run"


def _of(found: list[Row], *kinds: str) -> list[tuple[Any, ...]]:
    return [
        (row["kind"], row["name"], row["stage"], row["microbatch"])
        for row in found
        if row["kind"] in kinds
    ]


@pytest.mark.distributed
@pytest.mark.parametrize("rank", [0, 1])
def test_forwards_and_backwards_are_those_of_the_plan(run: Path, rank: int) -> None:
    plan = meta(run)["schedule"]["plan"][str(rank)]
    assert plan == one_forward_one_backward_order(rank, 2, MICROBATCHES)
    for step in range(STEPS):
        actions = _of(rows(run, rank, step=step), "forward", "backward")
        assert [f"{stage}{name}{microbatch}" for _, name, stage, microbatch in actions] == plan


@pytest.mark.distributed
@pytest.mark.parametrize("rank", [0, 1])
def test_a_step_loads_reduces_and_steps_the_optimizer_once(run: Path, rank: int) -> None:
    step = rows(run, rank, step=STEP)
    assert _of(step, "data") == [("data", "LoadMicroBatch", rank, i) for i in range(MICROBATCHES)]
    assert _of(step, "user") == [
        ("user", "ReduceTiedGrads", rank, None),
        ("user", "ReduceGrads", rank, None),
    ]
    assert _of(step, "optimizer") == [("optimizer", "SGD.step", None, None)]
    assert len(_of(rows(run, rank), "step")) == STEPS


@pytest.mark.distributed
def test_messages_carry_stage_and_microbatch_on_both_ends(run: Path) -> None:
    expected = Counter(
        (rank, kind, rank, microbatch, 1 - rank, "pp:0-1", MESSAGE_BYTES)
        for rank in (0, 1)
        for kind in ("send", "recv")
        for microbatch in range(MICROBATCHES)
    )
    seen = Counter(
        (rank, r["kind"], r["stage"], r["microbatch"], r["peer"], r["group"], r["bytes"])
        for rank in (0, 1)
        for r in calls(run, rank, step=STEP)
        if r["kind"] in ("send", "recv")
    )
    assert seen == expected


@pytest.mark.distributed
def test_stages_and_coordinates_reach_the_run(run: Path) -> None:
    for rank in (0, 1):
        assert facts(run, rank)["stages"] == [rank]
        assert facts(run, rank)["coordinates"] == {"pp": rank}
        assert facts(run, rank)["ended"] == "closed"


@pytest.mark.distributed
def test_the_parameters_are_the_same_bits_without_us(recorded: Path, tmp_path: Path) -> None:
    torchrun(2, EXAMPLE, *ARGUMENTS, "--save", tmp_path / "parameters")
    for rank in (0, 1):
        with_us = torch.load(recorded / f"parameters.{rank}")
        without = torch.load(tmp_path / f"parameters.{rank}")
        assert len(with_us) == len(without) == 4
        assert all(torch.equal(a, b) for a, b in zip(with_us, without, strict=True))


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 8), (4, 2), (1, 3)])
def test_the_plan_of_deepspeed_is_one_forward_one_backward(stages: int, microbatches: int) -> None:
    plan = plan_of(deepspeed_schedule.TrainSchedule(microbatches, stages, 0))

    assert plan.plan == {
        stage: tuple(one_forward_one_backward_order(stage, stages, microbatches))
        for stage in range(stages)
    }


class _Grid:
    """The part of DeepSpeed's process grid that is read."""

    pp_group = (0,)
    _topo = SimpleNamespace(get_axis_comm_lists=lambda axis: [[0]] if axis == "pipe" else [])


def _engine() -> Any:
    """A real engine that was never set up, since the whole of it needs process groups."""
    engine = object.__new__(PipelineEngine)
    torch.nn.Module.__init__(engine)
    engine.stage_id, engine.grid = 0, _Grid()
    return engine


def _run_batch(
    monkeypatch: pytest.MonkeyPatch, path: Path, optimizer_step: Any, **instructions: Any
) -> None:
    """Run DeepSpeed's own `_exec_schedule` over one stage, with instructions that do nothing."""

    def nothing(engine: Any, *args: Any, **kwargs: Any) -> None:
        return None

    stubs = {
        cls: instructions.get(cls.__name__, nothing) for cls in PipelineEngine._INSTRUCTION_MAP
    } | {deepspeed_schedule.OptimizerStep: optimizer_step}
    monkeypatch.setattr(PipelineEngine, "_INSTRUCTION_MAP", stubs)
    monkeypatch.setattr(PipelineEngine, "_reserve_pipe_buffers", nothing)
    with Tracer(path, collectors=[DeepSpeedPipeline(), Optimizers()]) as t:
        _engine()._exec_schedule(deepspeed_schedule.TrainSchedule(3, 1, 0))
        t.step()


def test_a_step_without_an_optimizer_of_torch_is_recorded_by_its_instruction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_batch(monkeypatch, tmp_path / "run", lambda engine: None)

    assert _of(rows(tmp_path / "run", 0), "optimizer") == [("optimizer", "OptimizerStep", 0, None)]


def test_a_step_of_an_optimizer_of_torch_is_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    _run_batch(monkeypatch, tmp_path / "run", lambda engine: optimizer.step())

    assert _of(rows(tmp_path / "run", 0), "optimizer") == [("optimizer", "SGD.step", None, None)]


def test_an_instruction_that_raises_passes_its_error_on_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: Any, buffer_id: int) -> None:
        raise FloatingPointError("of the training")

    with pytest.raises(FloatingPointError, match="of the training"):
        _run_batch(monkeypatch, tmp_path / "run", lambda engine: None, BackwardPass=fail)

    found = _of(rows(tmp_path / "run", 0), "forward", "backward")
    assert found == [("forward", "F", 0, 0), ("backward", "B", 0, 0)]
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


def test_a_fault_of_ours_ends_the_tracing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Grid, "_topo", None)
    _run_batch(monkeypatch, tmp_path / "run", lambda engine: None)

    assert facts(tmp_path / "run", 0)["ended"].startswith("failed: AttributeError")


def test_uninstall_puts_everything_back(tmp_path: Path) -> None:
    before = dict(vars(PipelineEngine))
    with Tracer(tmp_path / "run", collectors=[DeepSpeedPipeline()]):
        changed = {n for n, value in vars(PipelineEngine).items() if value is not before[n]}
    assert changed == {"_INSTRUCTION_MAP", "_exec_schedule", "train_batch"}
    assert dict(vars(PipelineEngine)) == before
