"""Bubbles on paper (see tests/support/pipeline_toy.py), and that their parts always add up."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.pipeline.actions import Action
from dashboard.analysis.pipeline.gaps import gaps_of
from dashboard.analysis.pipeline.plan_bound import plan_bounds, replay
from dashboard.analysis.pipeline.theory import theory_of
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.run_files import SchedulePlan


def test_parts_on_paper(tmp_path: Path) -> None:
    bubbles = open_run(write_pipeline(tmp_path / "run")).bubbles()
    # The window is 0-124; every rank works 60, so every bubble is 64.
    parts = ("window_ns", "busy_ns", "bubble_ns", "warm_up_ns", "stall_ns", "cool_down_ns")
    measured = {
        row["rank"]: tuple(row[part] // 1000 for part in parts) for row in bubbles.ranks.to_pylist()
    }
    assert measured == {
        0: (124, 60, 64, 0, 64, 0),
        1: (124, 60, 64, 11, 32, 21),
        2: (124, 60, 64, 22, 0, 42),
    }


def test_culprits_on_paper(tmp_path: Path) -> None:
    stalls = open_run(write_pipeline(tmp_path / "run")).bubbles().stalls.to_pylist()
    found = {(row["rank"], row["culprit_rank"]): row["stall_ns"] // 1000 for row in stalls}
    # Rank 0 waits for rank 1's gradients (20-74, 94-104), rank 1 for rank 2's (31-53, 73-83).
    assert found == {(0, 1): 64, (1, 2): 32}


def test_ratios_on_paper(tmp_path: Path) -> None:
    bubbles = open_run(write_pipeline(tmp_path / "run")).bubbles()
    step = bubbles.steps.to_pylist()[0]
    assert step["bubble_fraction_of_window"] == pytest.approx(64 / 124)
    assert step["bubble_over_ideal"] == pytest.approx(64 / 60)
    # Without message times the step takes 120: rank 0 ends B1 at 120, bubble 60 of 120.
    assert step["plan_bound_fraction_of_window"] == pytest.approx(60 / 120)
    assert step["plan_bound_over_ideal"] == pytest.approx(60 / 60)
    # Equal durations: the plan bound is what theory says, (p-1)/(m+p-1) = 2/4 and (p-1)/m = 2/2.
    assert bubbles.theory is not None
    assert bubbles.theory.fraction_of_window == pytest.approx(1 / 2)
    assert bubbles.theory.over_ideal == pytest.approx(1.0)


def test_a_gap_without_a_receive_is_the_ranks_own(tmp_path: Path) -> None:
    events = [
        Event(start=0, duration=100, kind="step"),
        Event(start=0, duration=10, kind="forward", stage=0, microbatch=0),
        Event(start=40, duration=20, kind="backward", stage=0, microbatch=0),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    assert run.bubbles().stalls.to_pylist() == [
        {"step": 0, "rank": 0, "culprit_rank": 0, "stall_ns": 30}
    ]


def test_each_pipeline_has_its_own_window(tmp_path: Path) -> None:
    def rank_events(at: int) -> list[Event]:
        return [
            Event(start=0, duration=100, kind="step"),
            Event(start=at, duration=10, kind="forward", stage=0, microbatch=0),
            Event(start=at + 10, duration=20, kind="backward", stage=0, microbatch=0),
        ]

    facts = {rank: RankFacts(coordinates={"pp": 0, "tp": rank}, stages=(0,)) for rank in (0, 1)}
    run = open_run(
        write_run(tmp_path / "run", {0: rank_events(0), 1: rank_events(50)}, facts=facts)
    )
    steps = run.bubbles().steps.to_pylist()
    assert {(s["group"], s["window_start"], s["window_ns"]) for s in steps} == {
        ("tp=0", 0, 30),
        ("tp=1", 50, 30),
    }


def test_no_pipeline_no_bubbles(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=9, kind="step")]}))
    bubbles = run.bubbles()
    assert bubbles.ranks.num_rows == bubbles.stalls.num_rows == bubbles.steps.num_rows == 0
    assert bubbles.theory is None


@pytest.mark.parametrize(
    ("name", "p", "m", "v", "of_window", "over_ideal"),
    [
        ("ScheduleGPipe", 4, 8, 1, 3 / 11, 3 / 8),
        ("Schedule1F1B", 4, 8, 1, 3 / 11, 3 / 8),
        ("ScheduleInterleaved1F1B", 4, 8, 2, 3 / 19, 3 / 16),
        ("ScheduleLoopedBFS", 4, 8, 2, 3 / 19, 3 / 16),
        ("ScheduleZBVZeroBubble", 4, 8, 2, None, None),
        ("MySchedule", 4, 8, 1, None, None),
    ],
)
def test_theory(
    name: str, p: int, m: int, v: int, of_window: float | None, over_ideal: float | None
) -> None:
    plan = SchedulePlan(name=name, stages=p * v, microbatches=m, virtual_stages=v, pipeline_size=p)
    theory = theory_of(plan)
    assert theory.fraction_of_window == (of_window and pytest.approx(of_window))
    assert theory.over_ideal == (over_ideal and pytest.approx(over_ideal))
    assert theory.source or theory.note


def action(
    rank: int, kind: str, microbatch: int, start: int, duration: int, step: int = 0
) -> Action:
    return Action(
        rank=rank, step=step, kind=kind, stage=rank, microbatch=microbatch, start=start,
        duration=duration,
    )  # fmt: skip


def table_of(actions: list[Action]) -> pa.Table:
    return pa.Table.from_pylist([asdict(one) for one in actions])


def test_plan_bound_of_split_backward_on_paper() -> None:
    # Two stages, one microbatch, F 10, I 10, W 10; recorded with long waits in between.
    # Replayed: F0 0-10 | F1 10-20, I1 20-30, W1 30-40 | I0 30-40, W0 40-50.
    actions = [
        action(0, "forward", 0, 0, 10),
        action(1, "forward", 0, 100, 10),
        action(1, "backward_input", 0, 200, 10),
        action(1, "backward_weight", 0, 300, 10),
        action(0, "backward_input", 0, 400, 10),
        action(0, "backward_weight", 0, 500, 10),
    ]
    assert plan_bounds(table_of(actions)) == {0: 50}


def test_plan_bound_of_a_contradiction_is_none() -> None:
    # Rank 0 is recorded as doing its backward before its forward: no plan does that.
    actions = [action(0, "backward", 0, 0, 10), action(0, "forward", 0, 20, 10)]
    assert plan_bounds(table_of(actions)) == {0: None}


PIECES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(("forward", "backward", "backward_input", "backward_weight")),
        st.integers(0, 1),
        st.integers(0, 40),
        st.integers(0, 12),
        st.integers(3, 5),
    ),
    min_size=1,
    max_size=25,
)


@given(PIECES)
def test_steps_are_replayed_together_as_one_by_one(
    pieces: list[tuple[int, str, int, int, int, int]],
) -> None:
    actions = sorted((action(*piece) for piece in pieces), key=lambda one: (one.start, one.rank))
    expected: dict[int, int | None] = {}
    for step in {one.step for one in actions}:
        replayed = replay([one for one in actions if one.step == step])
        expected[step] = None
        if replayed is not None:
            begin = min(one.start for one in replayed)
            expected[step] = max(one.end for one in replayed) - begin
    assert plan_bounds(table_of(actions)) == expected


@given(PIECES)
def test_gaps_are_what_no_action_covers(
    pieces: list[tuple[int, str, int, int, int, int]],
) -> None:
    """Also where actions overlap, or take no time; instant by instant."""
    actions = [action(*piece) for piece in pieces]
    ranks = (2, 0, 1)
    gaps = gaps_of(table_of(actions), ranks)
    for row, step in enumerate(gaps.steps.tolist()):
        here = [one for one in actions if one.step == step]
        window = range(min(one.start for one in here), max(one.end for one in here))
        assert (window.start, window.stop) == (gaps.begin[row], gaps.end[row])
        for place, rank in enumerate(ranks):
            busy = {at for one in here if one.rank == rank for at in range(one.start, one.end)}
            first, last = min(busy, default=window.stop), max(busy, default=window.stop - 1) + 1
            assert (gaps.first[row, place], gaps.last[row, place]) == (first, last)
            assert gaps.stalls[row, place] == len(set(range(first, last)) - busy)
