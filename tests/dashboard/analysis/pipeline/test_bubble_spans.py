"""Bubbles where they lie in time, beside how long they are."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from dashboard import open_run
from dashboard.analysis.pipeline.bubble_spans import bubble_spans
from tests.support.pipeline_toy import write_pipeline

SAMPLES = Path(__file__).parents[4] / "sample_traces"


def test_the_gaps_of_the_paper_pipeline(tmp_path: Path) -> None:
    """The drawing of pipeline_toy.py; its pipeline window is 0 to 124."""
    table = bubble_spans(open_run(write_pipeline(tmp_path / "run")))
    found = {
        (row["rank"], row["part"], row["start"] // 1000, row["duration"] // 1000)
        for row in table.to_pylist()
    }
    assert found == {
        (0, "stall", 20, 54), (0, "stall", 94, 10),
        (1, "warm_up", 0, 11), (1, "stall", 31, 22), (1, "stall", 73, 10),
        (1, "cool_down", 103, 21),
        (2, "warm_up", 0, 22), (2, "cool_down", 82, 42),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["pp4-gpipe", "pp2-tp2-1f1b"])
def test_they_are_as_long_as_the_bubbles_of_a_recorded_run(name: str) -> None:
    run = open_run(SAMPLES / name)
    table, ranks = bubble_spans(run), run.bubbles().ranks
    assert table.num_rows
    for part in ("warm_up", "stall", "cool_down"):
        mine = table.filter(pc.equal(table["part"], part))
        assert (pc.sum(mine["duration"]).as_py() or 0) == pc.sum(ranks[f"{part}_ns"]).as_py()
