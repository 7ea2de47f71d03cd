"""The matrices of collectives by rank: what stands in which cell, and what is said of none."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.collective_totals import collective_totals
from dashboard.figures.collectives import collective_bytes, collective_rates
from tests.support.launching import ROOT
from tests.support.pipeline_toy import write_pipeline


def test_each_cell_is_a_ranks_total() -> None:
    totals = collective_totals(open_run(ROOT / "sample_traces" / "pp2-tp2-1f1b"))
    rows = {row["rank"]: row for row in totals.to_pylist()}
    sent, rates = (draw(totals, "dark").data[0] for draw in (collective_bytes, collective_rates))
    assert (list(sent.x), list(sent.y)) == (["tp all_reduce"], ["0", "1", "2", "3"])
    assert [line[0] for line in sent.z] == [rows[rank]["bytes"] / 1e6 for rank in range(4)]
    assert [line[0] for line in rates.z] == pytest.approx(
        [rows[rank]["gbps"] * 1e3 for rank in range(4)]  # MB/s
    )
    assert "MB" in collective_bytes(totals).layout.xaxis.title.text


def test_without_collectives_the_figure_says_so(tmp_path: Path) -> None:
    totals = collective_totals(open_run(write_pipeline(tmp_path / "run")))
    (said,) = collective_bytes(totals).layout.annotations
    assert "No complete collective" in said.text
