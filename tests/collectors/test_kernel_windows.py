"""Kernel windows on the CPU: torch.profiler's operators, in the steps asked for, on our clock."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dashboard import open_run
from tests.support.reading import facts, rows
from tracer import Tracer, Window

SLACK_NS = 20_000
"""Kineto turns processor ticks into the wall clock's time, and we that into ours."""

MATRIX = torch.ones(64, 64)


def _train(t: Tracer, steps: int) -> None:
    for _ in range(steps):
        with t.span("multiply"):
            for _ in range(5):
                torch.mm(MATRIX, MATRIX)
        t.step()


def test_every_operator_of_the_window_and_of_no_other_step(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", kernels=Window(every=4, steps=2, first=1)) as t:
        _train(t, 8)
    seen = rows(tmp_path / "run", 0, kind="kernel", name="aten::mm")

    assert [row["step"] for row in seen] == [s for s in (1, 2, 5, 6) for _ in range(5)]
    assert {row["lane"] for row in seen} == {"host:main operators"}
    for row in seen:
        (span,) = rows(tmp_path / "run", 0, name="multiply", step=row["step"])
        assert span["start"] - SLACK_NS <= row["start"]
        assert row["start"] + row["duration"] <= span["start"] + span["duration"] + SLACK_NS


def test_the_window_that_is_open_at_the_end_is_kept(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", kernels=Window(every=100, steps=50, first=0)) as t:
        _train(t, 2)

    assert len(rows(tmp_path / "run", 0, kind="kernel", name="aten::mm")) == 10


def test_the_numbers_of_a_run_do_not_depend_on_its_windows(tmp_path: Path) -> None:
    """Operators are no work of their own: the spans around them are accounted for."""
    with Tracer(tmp_path / "run", kernels=Window(every=3, steps=1, first=1)) as t:
        _train(t, 3)
    table = open_run(tmp_path / "run").accounting().table.to_pylist()

    assert {row["step"] for row in table} == {0, 1, 2}
    assert all(row["duration"] == 0 for row in table if row["category"] != "idle")


def test_a_profiler_of_the_user_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        Tracer(tmp_path / "run", kernels=Window(every=4, steps=2, first=1)) as t,
        profile(activities=[ProfilerActivity.CPU]) as own,
    ):
        _train(t, 4)

    assert any(event.key == "aten::mm" for event in own.key_averages())
    assert rows(tmp_path / "run", 0, kind="kernel") == []
    assert len(rows(tmp_path / "run", 0, name="multiply")) == 4
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert capsys.readouterr().err.count("no kernel windows from here on") == 1


def test_a_profiler_that_the_user_starts_in_a_window_gets_its_way(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", kernels=Window(every=50, steps=20, first=0)) as t:
        _train(t, 2)
        with profile(activities=[ProfilerActivity.CPU]) as own:
            _train(t, 2)
        assert "_prepare_trace" in vars(torch.autograd.profiler.profile)

    counts = {event.key: event.count for event in own.key_averages()}
    assert counts["aten::mm"] == 10
    assert {r["step"] for r in rows(tmp_path / "run", 0, name="aten::mm")} == {0, 1}
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
