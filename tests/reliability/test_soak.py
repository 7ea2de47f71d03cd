"""Some seconds of the soak: nothing is miscounted and nothing stays open."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch.distributed", reason="needs torch")

from tests.reliability import soak


@pytest.mark.distributed
def test_every_event_is_in_the_file_or_among_the_dropped_ones(
    tmp_path: Path,
) -> None:
    # So seldom a flush that a ring runs over also on a slow machine.
    reports = soak.soak(tmp_path / "run", seconds=8, rate=200_000, flush_s=4.0)

    for report in reports:
        assert report.problems() == []
        assert report.offered > 4 * soak.BURST
        assert report.dropped > 0, "no ring ran over, so that the counter was not tried"
        assert report.in_file > 0


def test_the_slope_is_that_of_what_follows_the_warm_up() -> None:
    """10 kB per second after a jump: 600 kB per minute, whatever came before."""
    grows = [(float(i), 1000 * min(i, 100) + 10 * max(0, i - 100), 5, 3) for i in range(900)]
    slope = soak.slope(grows)
    short = soak.slope(grows[:201])

    assert slope == pytest.approx(600)
    assert short == pytest.approx(600), "100 s of 200 s"
    report = soak.RankReport(
        rank=0, offered=7, in_file=5, dropped=1, opens=True, ended="closed", samples=grows
    )
    report.slope_kb_per_minute = slope
    assert report.problems() == [
        "7 offered, 5 in the file, 1 lost",
        f"memory grows by {slope} kB/min, at most 256",
    ]


def test_what_stays_open_is_found() -> None:
    samples = [(float(i), 1000, 5 + i // 10, 3) for i in range(40)]
    report = soak.RankReport(rank=0, offered=0, opens=True, ended="closed", samples=samples)

    assert report.problems() == ["open files grew from 5 to 8"]
