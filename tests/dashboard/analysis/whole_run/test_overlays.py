"""What the timeline draws beside events: cut to the window, no finer than its pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import Run, open_run
from dashboard.analysis.whole_run.overlays import (
    MOST_STEPS,
    bubbles_between,
    counters_between,
    plan_between,
)
from tests.support.pipeline_toy import SCHEDULE, write_pipeline
from tests.support.toy import Event, write_counters, write_run

SAMPLE = open_run(Path(__file__).parents[4] / "sample_traces" / "pp2-tp2-1f1b")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(write_pipeline(tmp_path / "run"))


def test_bubbles_of_a_window(run: Run) -> None:
    """From 84 to 100 rank 0 stalls from 94 on, and rank 2 has cooled down since 82."""
    found = bubbles_between(run, 84_000, 100_000, 100)
    assert found == [[2, 82_000, 124_000, "cool_down"], [0, 94_000, 104_000, "stall"]]


def test_bubbles_of_less_than_half_a_pixel_are_left_out(run: Run) -> None:
    """At 130 over 5 pixels, 26 each: only gaps of 13 and more."""
    lengths = {end - start for _, start, end, _ in bubbles_between(run, 0, 130_000, 5)}
    assert lengths == {54_000, 22_000, 21_000, 42_000}


def test_the_plan_of_the_paper_pipeline(run: Run) -> None:
    """Without communication: F 10 and B 20 on three stages; rank 2 does F0 at 20 and B0 at 30."""
    found = plan_between(run, 0, 130_000)
    assert found["said"] == ""
    last = [action for action in found["actions"] if action[0] == 2]
    assert last == [
        [2, 20_000, 30_000, "forward", 0],
        [2, 30_000, 50_000, "backward", 0],
        [2, 50_000, 60_000, "forward", 1],
        [2, 60_000, 80_000, "backward", 1],
    ]


def test_the_plan_of_many_steps_or_of_no_pipeline_says_why_there_is_none(tmp_path: Path) -> None:
    steps = [
        Event(start=at * 10, duration=10, kind="step", name="step", step=at)
        for at in range(MOST_STEPS + 1)
    ]
    plain = open_run(write_run(tmp_path / "plain", {0: steps}))
    assert "no schedule" in plan_between(plain, 0, plain.duration_ns)["said"]
    planned = open_run(write_run(tmp_path / "planned", {0: steps}, schedule=SCHEDULE))
    assert "zoom in" in plan_between(planned, 0, planned.duration_ns)["said"]


def test_counters_keep_the_largest_of_each_pixel_and_one_value_on_either_side(
    tmp_path: Path,
) -> None:
    """Window 10-50 over 2 pixels of 20: of 12, 14 and 29 the largest is 9 at 14; 31 is alone."""
    path = write_run(
        tmp_path / "run", {0: [Event(start=0, duration=100, kind="step", name="step", step=0)]}
    )
    values = [(5, 1.0), (12, 4.0), (14, 9.0), (29, 2.0), (31, 3.0), (60, 8.0), (70, 7.0)]
    write_counters(path, 0, [(at * 1000, "memory.allocated/bytes", v) for at, v in values])
    (found,) = counters_between(open_run(path), 10_000, 50_000, 2)
    assert (found["rank"], found["name"], found["unit"], found["most"]) == (
        0,
        "memory.allocated",
        "bytes",
        9.0,
    )
    assert [(at // 1000, value) for at, value in found["points"]] == [
        (5, 1.0),
        (14, 9.0),
        (31, 3.0),
        (60, 8.0),
    ]


def test_a_recorded_run() -> None:
    whole = (0, SAMPLE.duration_ns)
    assert {rank for rank, *_ in bubbles_between(SAMPLE, *whole, 10_000)} == set(SAMPLE.ranks)
    assert counters_between(SAMPLE, *whole, 1000) == []  # its counters are the recorder's own
