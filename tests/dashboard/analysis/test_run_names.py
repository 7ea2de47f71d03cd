"""Names that tell runs apart, where directories are called the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dashboard.analysis.comparing.trend import trend
from dashboard.analysis.run_names import distinct_names
from tests.dashboard.analysis.comparing.test_compare import plain_run


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["a/one", "b/two"], ["one", "two"]),
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["a/x/run", "b/x/run", "b/y/run"], ["a/x/run", "b/x/run", "y/run"]),
        (["a/run", "a/run", "b/other"], ["run", "run", "other"]),
    ],
)
def test_as_many_directories_as_it_takes(
    tmp_path: Path, places: list[str], names: list[str]
) -> None:
    made = {
        place: plain_run(tmp_path / place, [9, 100, 100], compute_us=60) for place in set(places)
    }
    expected = tuple(name.replace("/", os.sep) for name in names)
    assert distinct_names([made[place] for place in places]) == expected


def test_comparisons_and_trends_tell_twins_apart(tmp_path: Path) -> None:
    a, b, c = (
        plain_run(tmp_path / place, [9, 100, 100], compute_us=60)
        for place in ("main/run", "fix/run", "fix/other")
    )
    found = a.compare(b)
    assert (found.a, found.b) == ("main/run", "fix/run")
    assert "fix/run: step 0 is left out as warm-up" in found.notes
    several = trend([a, c, b])
    assert several.table["run"].to_pylist() == ["main/run", "other", "fix/run"]
    # As in the table, although these two alone would need no directory.
    assert (several.comparisons[0].a, several.comparisons[0].b) == ("main/run", "other")
