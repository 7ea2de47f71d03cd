"""Comparison on paper: the same pipeline with a longer idle tail, and with itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import Run, open_run
from dashboard.analysis.compare import STEP_TIME
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run


def plain_run(path: Path, lengths_us: list[int], *, compute_us: int, ranks: int = 1) -> Run:
    """Steps of these lengths, each with one forward of `compute_us` and otherwise idle."""
    rows, at = [], 0
    for step, length in enumerate(lengths_us):
        rows.append(Event(start=at, duration=length, kind="step", step=step))
        rows.append(Event(start=at, duration=compute_us, kind="forward", step=step))
        at += length
    facts = {rank: RankFacts(coordinates={"dp": rank}) for rank in range(ranks)}
    return open_run(write_run(path, dict.fromkeys(range(ranks), rows), facts=facts, scale=1000))


def test_differences_on_paper(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [900, 100, 110, 90], compute_us=60)
    b = plain_run(tmp_path / "b", [900, 130, 120, 140], compute_us=80)
    rows = {row["category"]: row for row in a.compare(b).categories.to_pylist()}
    # Step 0 is warm-up. Means: A 100 us = 60 compute + 40 idle, B 130 us = 80 + 50.
    assert rows[STEP_TIME]["a_ms"] == pytest.approx(0.100)
    assert rows[STEP_TIME]["b_ms"] == pytest.approx(0.130)
    assert rows[STEP_TIME]["delta_ms"] == pytest.approx(0.030)
    assert rows["compute"]["delta_ms"] == pytest.approx(0.020)
    assert rows["idle"]["delta_ms"] == pytest.approx(0.010)
    # Compute is constant, so its interval has no width; three steps say little of the step time.
    assert (rows["compute"]["low_ms"], rows["compute"]["high_ms"]) == pytest.approx((0.02, 0.02))
    total = rows[STEP_TIME]
    assert total["low_ms"] < 0.0 < 0.030 < total["high_ms"]
    assert total["high_ms"] - 0.030 == pytest.approx(0.030 - total["low_ms"])
    assert (rows["compute"]["significant"], total["significant"]) == (True, False)


def test_headlines_on_paper(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [900, 100, 110, 90], compute_us=60)
    b = plain_run(tmp_path / "b", [900, 130, 120, 140], compute_us=80)
    # 100 us become 130: compute grows by 20, idle by 10. The other way it shrinks by 30 of 130.
    assert (a.compare(b).relative(), a.compare(b).largest()) == (pytest.approx(0.3), "compute")
    assert b.compare(a).relative() == pytest.approx(-30 / 130)
    nothing = plain_run(tmp_path / "c", [], compute_us=0)
    assert (nothing.compare(a).relative(), nothing.compare(a).largest()) == (None, None)


def test_categories_add_up_to_the_step_time(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a", steps=4))
    rows = run.compare(plain_run(tmp_path / "b", [50, 60, 70], compute_us=9)).categories.to_pylist()
    assert rows[0]["category"] == STEP_TIME
    for side in ("a_ms", "b_ms", "delta_ms"):
        assert sum(row[side] for row in rows[1:]) == pytest.approx(rows[0][side])


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a", steps=4))
    comparison = run.compare(run)
    assert not comparison.significant()
    assert {row["delta_ms"] for row in comparison.categories.to_pylist()} == {0.0}


def test_one_step_gives_no_interval_and_says_so(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [100], compute_us=60)
    comparison = a.compare(plain_run(tmp_path / "b", [100, 110, 120], compute_us=60))
    assert comparison.categories.to_pylist()[0]["low_ms"] is None
    assert not comparison.significant()
    assert any("no interval" in note for note in comparison.notes)


def test_other_world_sizes_compare_as_a_whole_and_say_so(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [9, 100, 100], compute_us=60)
    b = plain_run(tmp_path / "b", [9, 80, 80], compute_us=60, ranks=3)
    comparison = a.compare(b)
    assert comparison.categories.to_pylist()[0]["delta_ms"] == pytest.approx(-0.020)
    assert "world size: 1 → 3" in map(str, comparison.differences)
    assert any("matched by" in note or "means over all ranks" in note for note in comparison.notes)
