"""Recordings of one job again and again: how often a comparison of two of them marks something.

`repeats.tar.xz` holds 16 recordings, made one after the other on a machine with other work by

    chrt -r 5 python -m benchmarks.compare --repeats 24 --steps 24 --work-ms 10 --out DIRECTORY

(the first 16, without their counters).
"""

from __future__ import annotations

import tarfile
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.compare import against_the_others, halves, marks_nothing
from dashboard import Run, open_run
from dashboard.analysis.comparing.compare import Comparison

REPEATS = Path(__file__).parents[3] / "data" / "repeats.tar.xz"
GOAL = 0.95


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    place = tmp_path_factory.mktemp("repeats")
    with tarfile.open(REPEATS) as packed:
        packed.extractall(place, filter="data")
    return [open_run(path) for path in sorted(place.iterdir())]


def silent(found: list[Comparison]) -> float:
    return sum(map(marks_nothing, found)) / len(found)


def test_one_recording_after_the_other(runs: list[Run]) -> None:
    assert silent([a.compare(b) for a, b in pairwise(runs)]) >= GOAL
    # Their steps alone would tell some of them apart: that is why 2 % must be reached.
    assert silent([a.compare(b, relevant=0) for a, b in pairwise(runs)]) < GOAL


def test_the_halves_of_each_recording(runs: list[Run]) -> None:
    assert silent([halves(run) for run in runs]) >= GOAL


def test_one_recording_against_all_others(runs: list[Run]) -> None:
    assert silent([against_the_others(runs, number) for number in range(len(runs))]) >= GOAL


def test_what_differs_by_more_is_marked(runs: list[Run]) -> None:
    """The quickest and the slowest of the recordings are 3.1 % apart."""
    quick = min(runs, key=lambda run: run.compare(run).categories["a_ms"][0].as_py())
    slow = max(runs, key=lambda run: run.compare(run).categories["a_ms"][0].as_py())
    found = quick.compare(slow)
    assert found.significant()
    relative = found.relative()
    assert relative is not None
    assert relative > found.relevant
