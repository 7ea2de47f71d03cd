"""Bandwidth of each member on paper, and adding up to what all members see together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboard import open_run
from dashboard.analysis.communication.bandwidth_by_rank import bandwidth_by_rank
from tests.support.launching import ROOT
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run


def test_an_all_reduce_on_paper(tmp_path: Path) -> None:
    # Arrivals 100, 120 and 160; ends 200, 190 and 200. 4,000 B over 3 ranks: 5,333 on the bus.
    group = {"tp:0-2": {"dim": "tp", "ranks": [0, 1, 2]}}
    spans = {0: (100, 200), 1: (120, 190), 2: (160, 200)}
    events = {
        rank: [
            Event(start=0, duration=1000, kind="step"),
            Event(start=start, duration=end - start, kind="collective", name="all_reduce",
                  group="tp:0-2", seq=0, bytes=4000, correlation=1),
        ]
        for rank, (start, end) in spans.items()
    }  # fmt: skip
    facts = {rank: RankFacts(coordinates={"tp": rank}, groups=group) for rank in spans}
    rows = bandwidth_by_rank(open_run(write_run(tmp_path / "run", events, facts=facts))).to_pylist()
    assert [(r["rank"], r["seen_ns"], r["skew_free_ns"]) for r in rows] == [
        (0, 100, 40),
        (1, 70, 30),
        (2, 40, 40),
    ]
    assert rows[1]["busbw_seen"] == pytest.approx(4000 * 4 / 3 / 70)
    assert rows[1]["busbw_skew_free"] == pytest.approx(4000 * 4 / 3 / 30)


def test_both_ends_of_a_message(tmp_path: Path) -> None:
    rows = bandwidth_by_rank(open_run(write_pipeline(tmp_path / "run"))).to_pylist()
    of = {(row["rank"], row["op"]): row for row in rows}
    # Rank 0 waits 54 and 10 for its two gradients of 4,000 B, which take 1 (µs) each once sent.
    assert of[0, "recv"]["count"] == 2
    assert of[0, "recv"]["seen_ns"] == (54_000 + 10_000) / 2
    assert of[0, "recv"]["skew_free_ns"] == 1000
    assert of[0, "recv"]["busbw_skew_free"] == 4.0
    # Sends take no time: nothing to tell.
    assert of[0, "send"]["busbw_seen"] is None


def test_of_a_recorded_run_the_slowest_end_is_the_transfer() -> None:
    run = open_run(ROOT / "sample_traces" / "pp2-tp2-1f1b")
    rows = [row for row in bandwidth_by_rank(run).to_pylist() if row["op"] == "all_reduce"]
    whole = run.bandwidth().operations.to_pylist()
    for group in {row["group"] for row in rows}:
        mine = [row for row in rows if row["group"] == group]
        times = [row["transfer_ns"] for row in whole if row["group"] == group]
        assert {row["count"] for row in mine} == {len(times)}
        assert all(row["skew_free_ns"] <= np.median(times) for row in mine)
