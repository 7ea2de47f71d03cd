"""Bubbles summed up over steps, on the paper pipeline (see tests/support/pipeline_toy.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from dashboard import Run, open_run
from dashboard.analysis.pipeline.bubble_summary import (
    largest_stall,
    mean_parts,
    of_pipeline,
    ratios,
    stalls_by_culprit,
)
from dashboard.analysis.pipeline.bubbles import Bubbles
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(write_pipeline(tmp_path / "run", steps=2))


def test_means_of_two_equal_steps_are_those_of_one(run: Run) -> None:
    parts = ("busy_ns", "warm_up_ns", "stall_ns", "cool_down_ns")
    rows = mean_parts(run.bubbles()).to_pylist()
    assert {row["rank"]: tuple(row[part] for part in parts) for row in rows} == {
        0: (60_000, 0, 64_000, 0),
        1: (60_000, 11_000, 32_000, 21_000),
        2: (60_000, 22_000, 0, 42_000),
    }
    assert [row["fraction"] for row in rows] == pytest.approx([64 / 124] * 3)


def test_the_fraction_is_of_all_windows_together(run: Run) -> None:
    bubbles = run.bubbles()
    row = bubbles.ranks.slice(0, 1).to_pylist()[0]
    rows = [
        row | {"step": 0, "window_ns": 10, "busy_ns": 6, "bubble_ns": 4},
        row | {"step": 1, "window_ns": 30, "busy_ns": 24, "bubble_ns": 6},
    ]
    ranks = pa.Table.from_pylist(rows, schema=bubbles.ranks.schema)
    (mean,) = mean_parts(replace(bubbles, ranks=ranks)).to_pylist()
    assert (mean["window_ns"], mean["busy_ns"], mean["bubble_ns"]) == (20, 15, 5)
    assert mean["fraction"] == pytest.approx(10 / 40)


def test_stalls_are_per_measured_step_the_largest_first(run: Run) -> None:
    bubbles = run.bubbles()
    assert stalls_by_culprit(bubbles).to_pylist() == [
        {"rank": 0, "culprit_rank": 1, "stall_ns": 64_000},
        {"rank": 1, "culprit_rank": 2, "stall_ns": 32_000},
    ]
    # Stalls of only one of the two steps: half as much per step.
    once = replace(bubbles, stalls=bubbles.stalls.filter(pa.compute.field("step") == 0))
    assert stalls_by_culprit(once)["stall_ns"].to_pylist() == [32_000, 16_000]


def test_a_ranks_own_time_is_no_largest_stall(run: Run) -> None:
    bubbles = run.bubbles()
    found = largest_stall(bubbles)
    assert found is not None
    assert (found.rank, found.culprit_rank, found.stall_ns) == (0, 1, 64_000)
    own = [{"step": 0, "rank": 2, "culprit_rank": 2, "stall_ns": 1_000_000}]
    alone = pa.Table.from_pylist(own, schema=bubbles.stalls.schema)
    assert largest_stall(replace(bubbles, stalls=alone)) is None


def test_ratios_are_medians_and_none_where_nothing_is_known(run: Run, tmp_path: Path) -> None:
    measured, bound = ratios(run.bubbles())
    assert measured.fraction_of_window == pytest.approx(64 / 124)
    assert measured.over_ideal == pytest.approx(64 / 60)
    assert (bound.fraction_of_window, bound.over_ideal) == pytest.approx((0.5, 1.0))
    events = {0: [Event(start=0, duration=100, kind="step")]}
    empty = open_run(write_run(tmp_path / "empty", events)).bubbles()
    assert [ratio.fraction_of_window for ratio in ratios(empty)] == [None, None]


def test_one_pipeline_of_two_is_picked_with_its_stalls(run: Run) -> None:
    one = run.bubbles()
    both = _beside(one, shift=3, group="other")
    assert both.steps.num_rows == 2 * one.steps.num_rows
    picked = of_pipeline(both, "pipeline")
    assert picked.to_json() == one.to_json()
    assert set(of_pipeline(both, "other").stalls["rank"].to_pylist()) == {3, 4}


def _beside(bubbles: Bubbles, *, shift: int, group: str) -> Bubbles:
    """The same bubbles twice: also as a pipeline of other ranks."""
    tables = {}
    for name in ("ranks", "stalls", "steps"):
        table: pa.Table = getattr(bubbles, name)
        rows = [
            {key: _moved(key, value, shift, group) for key, value in row.items()}
            for row in table.to_pylist()
        ]
        tables[name] = pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)])
    return replace(bubbles, **tables)


def _moved(key: str, value: object, shift: int, group: str) -> object:
    if key == "group":
        return group
    return value + shift if key.endswith("rank") and isinstance(value, int) else value
