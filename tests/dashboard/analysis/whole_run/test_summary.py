"""Key figures and means of the paper pipeline (see tests/support/pipeline_toy.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.whole_run.summary import (
    communication_by_dimension,
    key_figures,
    mean_by_rank,
    step_times,
)
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run


def test_key_figures_on_paper(tmp_path: Path) -> None:
    figures = key_figures(open_run(write_pipeline(tmp_path / "run", steps=2)))
    assert figures.steps == 2
    assert (figures.step_ns, figures.step_low_ns, figures.step_high_ns) == (130_000,) * 3
    # Of 3 x 130: compute 3 x 60, waiting 64 + 43 + 22, idle 4 + 25 + 46, all of it pipeline.
    assert figures.compute_share == pytest.approx(180 / 390)
    assert figures.exposed_share == pytest.approx(129 / 390)
    assert figures.exposed_ns == pytest.approx(129_000 / 3)
    assert figures.exposed_dim == "comm:pp"
    assert figures.idle_share == pytest.approx(75 / 390)
    assert figures.bubble == pytest.approx(64 / 124)
    assert (figures.plan_bound, figures.theory) == pytest.approx((0.5, 0.5))
    # All ranks work 60 + 2: the first of them, by nothing more than the others.
    assert (figures.slowest_rank, figures.slowest_work_ns) == (0, 62_000)
    assert figures.slowest_excess == pytest.approx(0)


def test_the_slowest_rank_is_held_against_the_median_of_the_others(tmp_path: Path) -> None:
    work = {0: 20, 1: 40, 2: 90, 3: 30}
    events = {
        rank: [
            Event(start=0, duration=100, kind="step"),
            Event(start=0, duration=length, kind="forward", stage=rank, microbatch=0),
        ]
        for rank, length in work.items()
    }
    figures = key_figures(open_run(write_run(tmp_path / "run", events)))
    assert (figures.slowest_rank, figures.slowest_work_ns) == (2, 90)
    assert figures.slowest_excess == pytest.approx((90 - 30) / 30)


def test_a_run_without_steps_has_no_figures(tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=1, kind="user")]}
    figures = key_figures(open_run(write_run(tmp_path / "run", events)))
    assert figures.steps == 0
    assert figures.step_ns is None
    assert figures.slowest_rank is None


def test_step_times_are_the_spread_of_the_ranks(tmp_path: Path) -> None:
    lengths = {0: (100, 60), 1: (120, 40), 2: (104, 56)}
    events = {
        rank: [
            Event(start=0, duration=first, kind="step", step=4),
            Event(start=first, duration=second, kind="step", step=5),
        ]
        for rank, (first, second) in lengths.items()
    }
    times = step_times(open_run(write_run(tmp_path / "run", events)).accounting())
    assert times.to_pylist() == [
        {"step": 4, "start": 0, "median_ns": 104, "low_ns": 100, "high_ns": 120},
        {"step": 5, "start": 100, "median_ns": 56, "low_ns": 40, "high_ns": 60},
    ]


def test_means_by_rank_add_up_to_the_step(tmp_path: Path) -> None:
    accounting = open_run(write_pipeline(tmp_path / "run", steps=2)).accounting()
    rows = mean_by_rank(accounting).to_pylist()
    waits = {row["rank"]: row["ns_per_step"] for row in rows if row["category"] == "comm:pp"}
    assert waits == {0: 64_000, 1: 43_000, 2: 22_000}
    for rank in range(3):
        mine = [row for row in rows if row["rank"] == rank]
        assert sum(row["ns_per_step"] for row in mine) == 130_000
        assert sum(row["share"] for row in mine) == pytest.approx(1)


def test_exposed_and_overlapped_communication_on_paper(tmp_path: Path) -> None:
    """tp: 10 on each of two ranks, of which compute hides 6 on one and nothing on the other."""
    events = {
        rank: [
            Event(start=0, duration=20, kind="step", name="step"),
            Event(start=0, duration=6, kind="forward", name="F", lane="device:7"),
            Event(start=at, duration=10, kind="collective", name="all_reduce", group="tp:0-1",
                  seq=0, lane="device:9", correlation=1),
        ]
        for rank, at in ((0, 0), (1, 6))
    }  # fmt: skip
    run = open_run(write_run(tmp_path / "run", events))
    assert communication_by_dimension(run.accounting()).to_pylist() == [
        {"dim": "tp", "total_ns": 10, "exposed_ns": 7, "overlapped_ns": 3, "overlap": 0.3}
    ]
