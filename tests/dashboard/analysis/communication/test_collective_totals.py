"""Collectives of each rank summed up: on paper, and against the whole of a recorded run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.collective_totals import collective_totals
from tests.support.launching import ROOT
from tests.support.toy import Event, RankFacts, write_run


def test_two_all_reduces_on_paper(tmp_path: Path) -> None:
    """Rank 1 comes last both times, at 40 and 210; 1,000 B over 2 ranks are 1,000 on the bus.

    Rank 0 ends at 140 and 510: 100 + 300 ns after that, 2,000 / 400 = 5 GB/s. Rank 1 ends at 90
    and 460: 50 + 250, 2,000 / 300. A barrier has no payload.
    """
    group = {"dp:0-1": {"dim": "dp", "ranks": [0, 1]}}
    spans = {0: [(10, 140), (200, 510)], 1: [(40, 90), (210, 460)]}
    events = {
        rank: [
            Event(start=0, duration=1000, kind="step"),
            *(
                Event(start=start, duration=end - start, kind="collective", name="all_reduce",
                      group="dp:0-1", seq=seq, bytes=1000, correlation=seq)
                for seq, (start, end) in enumerate(both)
            ),
            Event(start=600, duration=10, kind="collective", name="barrier", group="dp:0-1", seq=2,
                  correlation=2),
        ]
        for rank, both in spans.items()
    }  # fmt: skip
    facts = {rank: RankFacts(coordinates={"dp": rank}, groups=group) for rank in spans}
    run = open_run(write_run(tmp_path / "run", events, facts=facts))
    rows = collective_totals(run).to_pylist()
    assert [(r["dim"], r["op"], r["rank"], r["groups"], r["count"], r["bytes"]) for r in rows] == [
        ("dp", "all_reduce", 0, 1, 2, 2000),
        ("dp", "all_reduce", 1, 1, 2, 2000),
    ]
    assert [row["gbps"] for row in rows] == pytest.approx([5, 2000 / 300])


def test_the_ranks_of_a_recorded_run_add_up_to_its_groups() -> None:
    run = open_run(ROOT / "sample_traces" / "pp2-tp2-1f1b")
    rows = collective_totals(run).to_pylist()
    summary = [row for row in run.bandwidth().summary.to_pylist() if row["op"] != "p2p"]
    assert sum(r["bytes"] for r in rows) == sum(r["bytes_total"] * r["n"] for r in summary)
    assert sum(r["count"] for r in rows) == sum(r["count"] * r["n"] for r in summary)
