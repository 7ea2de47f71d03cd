"""Utilization on paper: one message over two bins, and no byte lost."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from dashboard import open_run
from dashboard.analysis.communication.utilization import utilization
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run


def test_bins_on_paper(tmp_path: Path) -> None:
    # An all_reduce of 600 B over 2 ranks (factor 1): both arrive at 10, done at 40.
    # A barrier ends at 50, so 4 bins of 10 from 10: 200 B each in the first three.
    groups = {"tp:0-1": {"dim": "tp", "ranks": [0, 1]}}
    rows = [
        Event(start=0, duration=100, kind="step"),
        Event(start=10, duration=30, kind="collective", name="all_reduce", group="tp:0-1",
              seq=0, bytes=600, correlation=1),
        Event(start=40, duration=10, kind="collective", name="barrier", group="tp:0-1", seq=1,
              bytes=0, correlation=2),
    ]  # fmt: skip
    facts = {r: RankFacts(coordinates={"tp": r}, groups=groups) for r in (0, 1)}
    run = open_run(write_run(tmp_path / "run", {0: rows, 1: rows}, facts=facts))
    found = utilization(run.bandwidth(), bins=4)
    assert found.bin_ns == 10
    assert found.table["start"].to_pylist() == [10, 20, 30, 40]
    assert found.table["gbps"].to_pylist() == pytest.approx([20.0, 20.0, 20.0, 0.0])


@pytest.mark.parametrize("bins", [1, 3, 200, 5000])
def test_no_byte_is_lost(tmp_path: Path, bins: int) -> None:
    bandwidth = open_run(write_pipeline(tmp_path / "run", steps=3)).bandwidth()
    found = utilization(bandwidth, bins=bins)
    # Four links: 0 → 1, 1 → 2 and back.
    assert set(found.table["links"].to_pylist()) == {4}
    carried = pc.sum(found.table["gbps"]).as_py() * 4 * found.bin_ns
    assert carried == pytest.approx(pc.sum(bandwidth.operations["bytes"]).as_py())
