"""Several runs in a row, on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.analysis.comparing.trend import trend
from tests.dashboard.analysis.comparing.test_compare import plain_run


def test_each_run_stands_against_the_first(tmp_path: Path) -> None:
    runs = [
        plain_run(tmp_path / name, [900, *lengths], compute_us=60)
        for name, lengths in (
            ("monday", [100, 100, 100]),
            ("tuesday", [100, 100, 100]),
            ("wednesday", [110, 110, 110]),
        )
    ]
    found = trend(runs)
    rows = found.table.to_pylist()
    assert [(row["run"], row["steps"]) for row in rows] == [
        ("monday", 3), ("tuesday", 3), ("wednesday", 3)
    ]  # fmt: skip
    assert [row["step_ms"] for row in rows] == pytest.approx([0.1, 0.1, 0.11])
    assert [row["low_ms"] for row in rows] == pytest.approx([0.1, 0.1, 0.11])
    assert [row["delta_ms"] for row in rows] == [None, 0, pytest.approx(0.01)]
    assert [row["significant"] for row in rows] == [None, False, True]
    assert [comparison.b for comparison in found.comparisons] == ["tuesday", "wednesday"]


def test_own_interval_on_paper(tmp_path: Path) -> None:
    run = plain_run(tmp_path / "a", [900, 90, 110, 100, 90, 110, 100, 90, 110], compute_us=60)
    row = trend([run, run]).table.to_pylist()[0]
    # 8 steps, mean 100, standard deviation 8.7 us: a standard error of 3.2 us and Student's t of
    # 3 degrees of freedom give 100 +- 10; what steps may have in common widens that.
    assert row["step_ms"] == pytest.approx(0.1)
    assert row["high_ms"] - 0.1 == pytest.approx(0.1 - row["low_ms"])
    assert 0.007 < row["high_ms"] - 0.1 < 0.020


def test_runs_share_the_five_percent(tmp_path: Path) -> None:
    """What is just beyond chance for one comparison is not for one of several."""
    a = plain_run(tmp_path / "a", [9, 100, 104, 98, 101, 99, 103, 97, 100], compute_us=60)
    b = plain_run(tmp_path / "b", [9, 107, 111, 106, 108, 106, 110, 104, 107], compute_us=60)
    assert trend([a, b]).table["significant"].to_pylist() == [None, True]
    assert trend([a, *[b] * 40]).table["significant"].to_pylist()[1] is False


def test_a_run_without_steps_is_a_row_all_the_same(tmp_path: Path) -> None:
    a = plain_run(tmp_path / "a", [9, 100, 100], compute_us=60)
    rows = trend([a, plain_run(tmp_path / "b", [], compute_us=0)]).table.to_pylist()
    assert (rows[1]["steps"], rows[1]["step_ms"], rows[1]["significant"]) == (0, None, None)
