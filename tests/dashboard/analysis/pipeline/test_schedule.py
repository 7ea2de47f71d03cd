"""The schedule of one step, measured and replayed, on paper (tests/support/pipeline_toy.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from dashboard import open_run
from dashboard.analysis.pipeline.schedule import step_schedule
from tests.support.pipeline_toy import ACTIONS, SCHEDULE, STEP_END, step_events, write_pipeline
from tests.support.toy import Event, write_run
from tracer.schema import events_file

SAMPLES = Path(__file__).parents[4] / "sample_traces"


def starts(table: pa.Table) -> dict[int, list[tuple[str, int, int]]]:
    """Rank → kind, microbatch and start in µs of its actions."""
    found: dict[int, list[tuple[str, int, int]]] = {}
    for row in table.to_pylist():
        entry = row["kind"], row["microbatch"], row["start"] // 1000
        found.setdefault(row["rank"], []).append(entry)
    return found


def test_measured_actions_count_from_the_window(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run", steps=2))
    schedule = step_schedule(run, 1, "pipeline")
    assert starts(schedule.measured) == ACTIONS
    begin = STEP_END * 1000
    assert schedule.window == (begin, begin + 124_000)


def test_the_replay_waits_for_dependencies_but_not_for_messages(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run"))
    # Each message saves 1, so B1 of rank 0 ends at 120 instead of 124.
    assert starts(step_schedule(run, 0, "pipeline").replayed) == {
        0: [("forward", 0, 0), ("forward", 1, 10), ("backward", 0, 70), ("backward", 1, 100)],
        1: [("forward", 0, 10), ("forward", 1, 20), ("backward", 0, 50), ("backward", 1, 80)],
        2: [("forward", 0, 20), ("backward", 0, 30), ("forward", 1, 50), ("backward", 1, 60)],
    }


def test_the_plan_has_equally_long_stages(tmp_path: Path) -> None:
    """On paper they are already, so it is the replay; measured on rank 1 as 4 and 8 they are 8 and
    16 on average, and the window (m + p − 1) (8 + 16) = 96.
    """
    run = open_run(write_pipeline(tmp_path / "run"))
    schedule = step_schedule(run, 0, "pipeline")
    assert schedule.planned.equals(schedule.replayed)
    short = {rank: list(events) for rank, events in step_events().items()}
    for place, event in enumerate(short[1]):
        if event.kind in ("forward", "backward"):
            short[1][place] = replace(event, duration=4 if event.kind == "forward" else 8)
    run = open_run(write_run(tmp_path / "short", short, schedule=SCHEDULE, scale=1000))
    planned = step_schedule(run, 0, "pipeline").planned.to_pylist()
    assert max(row["start"] + row["duration"] for row in planned) == 96_000


def test_the_bubble_of_the_plan_is_that_of_theory() -> None:
    run = open_run(SAMPLES / "pp4-1f1b-slow-stage")
    planned = step_schedule(run, 5, "pipeline").planned.to_pylist()
    window = max(row["start"] + row["duration"] for row in planned)
    busy = sum(row["duration"] for row in planned)
    theory = run.bubbles().theory
    assert theory is not None
    assert 1 - busy / (4 * window) == pytest.approx(theory.fraction_of_window)


def test_a_schedule_that_nobody_knows_has_no_plan(tmp_path: Path) -> None:
    unknown = {**SCHEDULE, "name": "ScheduleOfOurOwn"}
    run = open_run(write_run(tmp_path / "run", step_events(), schedule=unknown, scale=1000))
    schedule = step_schedule(run, 0, "pipeline")
    assert (schedule.measured.num_rows, schedule.planned.num_rows) == (12, 0)


def test_a_step_that_contradicts_its_order_has_no_replay(tmp_path: Path) -> None:
    # Both ranks begin with what the other one does second.
    first = {0: ("backward", "forward"), 1: ("forward", "backward")}
    events = {
        rank: [
            Event(start=0, duration=100, kind="step"),
            Event(start=0, duration=10, kind=kinds[0], stage=rank, microbatch=0),
            Event(start=10, duration=10, kind=kinds[1], stage=rank, microbatch=0),
        ]
        for rank, kinds in first.items()
    }
    run = open_run(write_run(tmp_path / "run", events))
    schedule = step_schedule(run, 0, "pipeline")
    assert schedule.measured.num_rows == 4
    assert schedule.replayed.num_rows == 0


def test_without_the_last_rank_there_is_nothing_to_replay(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "run")
    (path / events_file(2)).unlink()
    run = open_run(path)
    schedule = step_schedule(run, 0, "pipeline")
    assert starts(schedule.measured).keys() == {0, 1}
    # What rank 2 would have made the others wait for is unknown, so the plan bound is, too.
    assert schedule.replayed.num_rows == schedule.planned.num_rows == 0
    assert run.bubbles().steps["plan_bound_fraction_of_window"].to_pylist() == [None]


def test_what_is_not_there_has_no_window(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run"))
    for step, group in ((7, "pipeline"), (0, "tp=9")):
        schedule = step_schedule(run, step, group)
        assert (schedule.window_start, schedule.window) == (None, None)
        assert schedule.measured.num_rows == schedule.replayed.num_rows == 0
