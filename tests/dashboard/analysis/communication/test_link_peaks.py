"""Where peaks come from, and utilization on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.link_peaks import Peak, link_peaks, peak_utilization
from tests.support.calibrations import calibration
from tests.support.pipeline_toy import write_pipeline


def test_the_user_says_it_best() -> None:
    # 3,000 B over 4 ranks in 450 ns: 1.5 x 3,000 / 450 = 10 GB/s on the bus.
    measured = calibration(
        [
            {"dim": "tp", "op": "all_reduce", "n": 4, "bytes": 3000, "ns": 450},
            {"dim": "tp", "op": "all_reduce", "n": 4, "bytes": 30, "ns": 450},
            {"dim": "pp", "op": "p2p", "bytes": 1000, "ns": 500},
            {"dim": "dp", "op": "p2p", "bytes": 1000, "ns": 500},
        ]
    )
    found = link_peaks({"tp": 20.0, "pp": 30.0}, measured, {"tp": 450.0})
    assert found == {
        "tp": Peak(gbps=450.0, source="given"),
        "pp": Peak(gbps=30.0, source="recorded"),
        "dp": Peak(gbps=2.0, source="calibrated"),
    }
    assert link_peaks({}, measured)["tp"].gbps == pytest.approx(10)
    assert link_peaks({}) == {}


def test_utilization_on_paper(tmp_path: Path) -> None:
    # Messages of 4,000 B in 1 µs: 4 GB/s, of a peak of 16.
    bandwidth = open_run(write_pipeline(tmp_path / "run")).bandwidth()
    rows = peak_utilization(bandwidth, link_peaks({}, None, {"pp": 16.0})).to_pylist()
    assert [(r["op"], r["utilization"], r["source"]) for r in rows] == [("p2p", 0.25, "given")]
    assert peak_utilization(bandwidth, link_peaks({"tp": 16.0})).num_rows == 0
