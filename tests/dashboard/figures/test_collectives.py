"""The matrices of collectives by rank: what stands in which cell, and what is said of none."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
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


def test_a_low_cell_is_seen_beside_a_dimension_that_is_a_hundred_times_as_fast() -> None:
    """tp at 20 MB/s with one rank at 5, dp at 3 GB/s: with one scale, all of tp has one colour."""
    speeds = [("tp", 0, 0.02), ("tp", 1, 0.005), ("dp", 0, 3.0), ("dp", 1, 1.5)]
    totals = pa.Table.from_pylist(
        [
            {"dim": dim, "op": "all_reduce", "rank": rank, "bytes": 8, "gbps": speed}
            for dim, rank, speed in speeds
        ]
    )
    columns = collective_rates(totals).data
    shades = [[line[i] / column.zmax for line in column.z] for i, column in enumerate(columns)]
    assert shades == [[1.0, pytest.approx(0.25)], [1.0, pytest.approx(0.5)]]
    # A trace of one column alone is drawn beside its place.
    assert [column.x for column in columns] == [("tp all_reduce", "dp all_reduce")] * 2
    assert [[line[1 - i] for line in c.z] for i, c in enumerate(columns)] == [[None, None]] * 2
    assert [column.zmin for column in columns] == [0, 0]


def test_the_scale_beside_many_ranks_is_of_each_column() -> None:
    totals = pa.Table.from_pylist(
        [
            {"dim": dim, "op": "all_reduce", "rank": rank, "bytes": bytes_, "gbps": 1.0}
            for dim, bytes_ in (("tp", 4_000_000), ("dp", 2_000_000_000))
            for rank in range(16)
        ]
    )
    first, last = collective_bytes(totals).data
    assert (first.showscale, last.showscale) == (False, True)
    assert list(last.colorbar.ticktext) == ["0%", "25%", "50%", "75%", "100%"]
    assert list(last.colorbar.tickvals) == [0, 0.5, 1.0, 1.5, 2.0]  # GB
