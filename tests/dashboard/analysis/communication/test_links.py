"""Links in one answer: the run's own lines before calibrated ones; what does not fit is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.bandwidth_by_size import time_by_size
from dashboard.analysis.communication.links import links
from tests.support.calibrations import calibration
from tests.support.pipeline_toy import write_pipeline
from tests.support.transfers import transfers
from tracer.calibration_file import CALIBRATION_FILE, write_calibration

# 1 µs and 1 ns per 4 B: 5 µs for 16 kB, 17 for 64 kB.
SWEEP = [{"group": "pp:0-2", "bytes": s, "ns": 1000 + s / 4, "n": 3} for s in (16_000, 64_000)]


def test_the_calibration_beside_the_run_is_read(tmp_path: Path) -> None:
    run = write_pipeline(tmp_path / "run")
    assert links(open_run(run)).line("pp:0-2", "p2p") is None
    write_calibration(run / CALIBRATION_FILE, calibration(SWEEP))
    found = links(open_run(run))
    line = found.line("pp:0-2", "p2p")
    assert line is found.calibrated[0]
    assert (line.alpha_ns, line.beta_gbps) == (pytest.approx(1000), pytest.approx(4))
    # The largest busbw is that of 64,000 B in 17 µs; the messages of the run have 4 GB/s.
    assert found.peaks["pp"].gbps == pytest.approx(64 / 17)
    assert found.utilization["utilization"].to_pylist() == [pytest.approx(4 / (64 / 17))]
    assert found.notes == ()
    assert json.loads(json.dumps(found.to_json()))["calibrated"][0]["beta_gbps"] == line.beta_gbps


def test_a_calibration_of_another_host_is_named(tmp_path: Path) -> None:
    run = write_pipeline(tmp_path / "run")
    found = links(open_run(run), calibration=calibration(SWEEP, host="other"))
    assert found.notes == ("calibrated on other, recorded on toyhost: the links may be others",)


def test_a_damaged_calibration_is_named_and_left_out(tmp_path: Path) -> None:
    run = write_pipeline(tmp_path / "run")
    (run / CALIBRATION_FILE).write_text("{")
    found = links(open_run(run))
    assert found.calibrated == ()
    assert "not valid JSON" in found.notes[0]
    assert CALIBRATION_FILE in found.notes[0]


def test_times_by_size_on_paper() -> None:
    rows = [{"bytes": 8, "transfer_ns": t} for t in range(11)]
    rows += [{"bytes": 9, "transfer_ns": 100, "unwatched_ns": 99}]
    # Of 0 to 10 the 0 is no transfer: 1 to 10 are left, and what nobody waited for is not told.
    (row,) = time_by_size(transfers(rows)).to_pylist()
    assert (row["bytes"], row["count"]) == (8, 10)
    assert (row["ns_low"], row["ns"], row["ns_high"]) == (1.9, 5.5, 9.1)
