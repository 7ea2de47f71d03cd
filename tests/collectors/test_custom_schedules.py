"""Schedules that a user brings: from a file, and with functions in place of actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    FORWARD,
    FULL_BACKWARD,
    _PipelineScheduleRuntime,
)

from tests.support.reading import meta, rows
from tracer import Tracer

PLAN = ["0F0", "0F1", "0B1", "0F2", "0B0", "0B2"]
"""An order that no schedule of torch has."""

WIDTH, MICROBATCHES = 4, 3


def _schedule(directory: Path, format: str) -> Any:
    torch.manual_seed(0)
    stage = PipelineStage(nn.Linear(WIDTH, WIDTH), 0, 1, torch.device("cpu"))
    schedule = _PipelineScheduleRuntime([stage], MICROBATCHES, loss_fn=nn.functional.mse_loss)
    plan = directory / "plan.csv"
    plan.write_text(",".join(PLAN) + "\n")
    schedule._load_csv(str(plan), format=format)
    return schedule


def _forward(action: Any, context: Any) -> None:
    """The user's own way around the stage's own method."""
    schedule, index = context.schedule_ref, action.microbatch_index
    (stage,) = schedule._stages
    output = stage.forward_one_chunk(index, context.arg_mbs[index], context.kwarg_mbs[index])
    schedule._maybe_compute_loss(stage, output, context.target_mbs, index)


def _backward(action: Any, context: Any) -> None:
    """The user's own work in place of the stage's."""
    schedule = context.schedule_ref
    schedule._maybe_get_loss(schedule._stages[0], action.microbatch_index).backward()


def _train(schedule: Any) -> list[torch.Tensor]:
    batch = torch.arange(float(2 * MICROBATCHES * WIDTH)).reshape(-1, WIDTH)
    schedule.step(batch, target=batch)
    return [parameter.grad for parameter in schedule._stages[0].submod.parameters()]


def _actions(run: Path) -> list[str]:
    return [
        f"{row['stage']}{row['name']}{row['microbatch']}"
        for row in rows(run, 0)
        if row["kind"] in ("forward", "backward")
    ]


@pytest.mark.parametrize("format", ["compute_only", "compute_comms"])
def test_a_schedule_from_a_file_runs_and_is_recorded(
    tmp_path: Path, group: dist.ProcessGroup, format: str
) -> None:
    bare = _train(_schedule(tmp_path, format))
    with Tracer(tmp_path / "run"):
        traced = _train(_schedule(tmp_path, format))

    assert _actions(tmp_path / "run") == PLAN
    assert meta(tmp_path / "run")["schedule"]["plan"] == {"0": PLAN}
    assert all(torch.equal(a, b) for a, b in zip(bare, traced, strict=True))


def test_functions_in_place_of_actions_still_work_and_are_recorded_once(
    tmp_path: Path, group: dist.ProcessGroup
) -> None:
    def registered() -> Any:
        schedule = _schedule(tmp_path, "compute_only")
        schedule.register_custom_function(FORWARD, _forward)
        schedule.register_custom_function(FULL_BACKWARD, _backward)
        return schedule

    bare = _train(registered())
    schedule = registered()
    with Tracer(tmp_path / "run"):
        traced = _train(schedule)

    assert _actions(tmp_path / "run") == PLAN
    assert all(row["duration"] > 0 for row in rows(tmp_path / "run", 0, kind="backward"))
    assert schedule._comp_type_to_function_map == {FORWARD: _forward, FULL_BACKWARD: _backward}
    assert all(torch.equal(a, b) for a, b in zip(bare, traced, strict=True))


def test_a_function_that_raises_passes_its_error_on(
    tmp_path: Path, group: dist.ProcessGroup
) -> None:
    def broken(action: Any, context: Any) -> None:
        raise KeyError("the user's own")

    schedule = _schedule(tmp_path, "compute_only")
    schedule.register_custom_function(FORWARD, broken)
    with Tracer(tmp_path / "run"), pytest.raises(KeyError, match="the user's own"):
        _train(schedule)

    assert schedule._comp_type_to_function_map == {FORWARD: broken}
