"""Lanes: order, rows of nested events, steps, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.timeline.build import build_timeline
from dashboard.timeline.nesting import nesting_depth
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import KINDS


def test_nested_events_go_one_row_deeper() -> None:
    #   0─────────10          12───20
    #     2──4 5───8
    start, end = np.array([0, 2, 5, 12]), np.array([10, 4, 8, 20])
    assert nesting_depth(start, end).tolist() == [0, 1, 1, 0]


def test_overlap_that_is_not_nesting_also_gets_a_row_of_its_own() -> None:
    # transfers on one stream lane that overlap in a chain need two rows, not five
    start = np.array([0, 5, 11, 16, 21])
    end = np.array([10, 15, 20, 25, 30])
    assert nesting_depth(start, end).tolist() == [0, 1, 0, 1, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 50)), max_size=60))
def test_each_event_takes_the_first_row_that_is_free(spans: list[tuple[int, int]]) -> None:
    ordered = sorted(spans, key=lambda span: (span[0], -span[1]))
    free_from: list[int] = []
    wanted = []
    for start, duration in ordered:
        row = next((r for r, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[row:] = [start + duration, *free_from[row + 1 :]]
        wanted.append(row)
    begin = np.array([start for start, _ in ordered], np.int64)
    end = begin + np.array([duration for _, duration in ordered], np.int64)
    assert nesting_depth(begin, end).tolist() == wanted


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=40))
def test_no_two_events_of_a_row_overlap(spans: list[tuple[int, int]]) -> None:
    ordered = sorted(spans, key=lambda span: (span[0], -span[1]))
    start = np.array([s for s, _ in ordered], np.int64)
    end = start + np.array([d for _, d in ordered], np.int64)
    depth = nesting_depth(start, end)
    for row in set(depth.tolist()):
        mine = depth == row
        assert np.all(start[mine][1:] >= end[mine][:-1])


def test_stages_then_ranks_then_lanes(tmp_path: Path) -> None:
    forward = Event(start=10, duration=5, kind="forward", name="F", stage=0, microbatch=3)
    inner = Event(start=11, duration=2, kind="collective", name="all_reduce")
    transfer = Event(start=11, duration=4, kind="collective", lane="device:gloo")
    worker = Event(start=0, duration=1, kind="user", name="log", lane="host:a")
    run = write_run(
        tmp_path / "run",
        {0: [worker, forward, inner, transfer], 1: [forward]},
        facts={
            0: RankFacts(coordinates={"pp": 1}, stages=(1,)),
            1: RankFacts(coordinates={"pp": 0}, stages=(0,)),
        },
    )
    timeline = build_timeline(open_run(run))
    placed = [(lane.rank, lane.lane, lane.first_row, lane.rows) for lane in timeline.lanes]
    assert placed == [
        (1, "host:main", 0, 1),
        (0, "host:main", 1, 2),
        (0, "host:a", 3, 1),
        (0, "device:gloo", 4, 1),
    ]
    assert [KINDS[k] for k in timeline.kind] == [
        "forward", "forward", "collective", "user", "collective",
    ]  # fmt: skip
    assert timeline.microbatch.tolist() == [3, 3, -1, -1, -1]
    assert timeline.source.tolist() == [0, 1, 2, 0, 3]
    assert [timeline.names[n] for n in timeline.name[:3]] == ["F", "F", "all_reduce"]


def test_steps_are_lines_not_boxes(tmp_path: Path) -> None:
    events = [
        Event(start=100, duration=50, kind="step", name="step", step=0),
        Event(start=110, duration=20, kind="forward", name="F"),
        Event(start=150, duration=50, kind="step", name="step", step=1),
    ]
    timeline = build_timeline(open_run(write_run(tmp_path / "run", {0: events})))
    assert timeline.steps.tolist() == [[0, 0, 0, 50], [0, 1, 50, 50]]
    assert len(timeline.start) == 1
    assert timeline.span == (0, 100)


def test_a_run_without_events_is_an_empty_timeline(tmp_path: Path) -> None:
    timeline = build_timeline(open_run(write_run(tmp_path / "run", {0: []})))
    assert timeline.lanes == ()
    assert timeline.row_count == 0
    assert timeline.span == (0, 1)
