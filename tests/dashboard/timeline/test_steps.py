"""What the timeline tells of steps: of the run by number, of single ranks where there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.timeline import build
from dashboard.timeline.build import build_timeline
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.steps import all_steps, steps_in
from dashboard.timeline.window import Window
from tests.support.toy import Event, write_run

STEPS = {0: [(0, 0, 50), (1, 50, 50), (2, 100, 60)], 1: [(0, 5, 50), (1, 58, 50)], 2: []}
"""By rank: number, start and duration in ns; rank 1 has not told its last step yet, rank 2 none."""


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    events = {
        rank: [Event(start=at, duration=10, kind="forward", name="F") for at in (0, 60)]
        + [
            Event(start=start, duration=duration, kind="step", name="step", step=step)
            for step, start, duration in steps
        ]
        for rank, steps in STEPS.items()
    }
    return build_timeline(open_run(write_run(tmp_path / "run", events)))


def test_those_of_each_rank_lie_together(
    timeline: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timeline.steps[:, :2].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    for at_once in (1, 2, 3, 9):
        monkeypatch.setattr(build, "_STEPS", at_once)
        assert build.by_rank(timeline.steps[:, 0]) == {0: slice(0, 3), 1: slice(3, 5)}
    assert build.by_rank(timeline.steps[:0, 0]) == {}


def test_a_step_of_the_run_goes_from_its_first_start_to_its_last_end(timeline: Timeline) -> None:
    steps = all_steps(timeline)
    assert steps.number.tolist() == [0, 1, 2]
    assert steps.start.tolist() == [0, 50, 100]
    assert steps.end.tolist() == [55, 108, 160]
    assert steps.told == 1, "rank 1 ends with it"


def shown(timeline: Timeline, start: int, end: int, width: int, rows: int = 3) -> list[list[int]]:
    window = Window(start=start, end=end, width=1, first_row=0, end_row=rows)
    steps = steps_in(timeline, window, width)
    return list(map(list, zip(steps.rank, steps.number, steps.start, steps.duration, strict=True)))


def test_a_window_has_the_steps_that_reach_into_it_of_the_ranks_that_are_in_it(
    timeline: Timeline,
) -> None:
    assert shown(timeline, 50, 100, 100) == [[0, 1, 0, 50], [1, 0, -45, 50], [1, 1, 8, 50]]
    assert shown(timeline, 50, 100, 100, rows=1) == [[0, 1, 0, 50]]
    assert shown(timeline, 99, 101, 100) == [[0, 1, -49, 50], [0, 2, 1, 60], [1, 1, -41, 50]]
    assert shown(timeline, 160, 170, 100) == []


def test_steps_without_room_for_their_edges_are_left_out(timeline: Timeline) -> None:
    assert [rank for rank, *_ in shown(timeline, 0, 160, 24)] == [0, 0, 0, 1, 1]
    assert [rank for rank, *_ in shown(timeline, 0, 160, 23)] == [1, 1], "three steps in 23 pixels"


def test_a_run_without_steps_has_told_none(tmp_path: Path) -> None:
    events = [Event(start=0, duration=10, kind="forward", name="F")]
    timeline = build_timeline(open_run(write_run(tmp_path / "run", {0: events})))
    assert all_steps(timeline).told is None
    assert shown(timeline, 0, 10, 100) == []
