"""The critical path as it is drawn: joined by rank, cut to a window, no finer than its pixels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from dashboard import open_run
from dashboard.analysis.replay.path_stays import Stay, path_stays, stays_between
from tests.support.pipeline_toy import write_pipeline


def _seen(stays: list[Stay]) -> list[tuple[int, int, int]]:
    return [(stay.rank, stay.start // 1000, stay.end // 1000) for stay in stays]


def test_stays_of_the_paper_pipeline(tmp_path: Path) -> None:
    """The segments of test_critical_path.py, those of one rank joined."""
    stays = path_stays(open_run(write_pipeline(tmp_path / "run")))
    assert _seen(stays) == [(0, 0, 10), (1, 10, 21), (2, 21, 82), (1, 82, 103), (0, 103, 130)]


def test_a_window_has_what_overlaps_it(tmp_path: Path) -> None:
    stays = path_stays(open_run(write_pipeline(tmp_path / "run")))
    found = stays_between(stays, 15_000, 90_000, width=1000)
    assert _seen(found) == [(1, 10, 21), (2, 21, 82), (1, 82, 103)]
    assert stays_between(stays, 200_000, 300_000, width=1000) == []


def test_what_is_narrower_than_a_pixel_is_joined_with_what_follows(tmp_path: Path) -> None:
    """Pixels of 10: none is narrower. Pixels of 32.5: 0-10 is joined with 10-21, the longer, and
    both with 21-82, which is longer still; 82-103 with 103-130.
    """
    stays = path_stays(open_run(write_pipeline(tmp_path / "run")))
    assert len(stays_between(stays, 0, 130_000, width=13)) == 5
    found = _seen(stays_between(stays, 0, 130_000, width=4))
    assert found == [(2, 0, 82), (0, 82, 130)]


def test_stays_tile_the_steps_of_a_recorded_run() -> None:
    run = open_run(Path("sample_traces/pp4-1f1b-slow-stage"))
    stays = path_stays(run)
    assert all(a.end == b.start and a.rank != b.rank for a, b in pairwise(stays))
    lengths = run.critical_path().steps["length_ns"].to_pylist()
    assert sum(stay.end - stay.start for stay in stays) == sum(lengths)
