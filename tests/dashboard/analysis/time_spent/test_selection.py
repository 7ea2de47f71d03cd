"""A marked stretch of time: its accounting closes, its events are counted and cut to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.time_spent.selection import select
from tests.support.pipeline_toy import write_pipeline
from tracer.errors import UsageError

SAMPLE = open_run(Path(__file__).parents[4] / "sample_traces" / "pp2-tp2-1f1b")


def test_the_paper_pipeline_from_15_to_80(tmp_path: Path) -> None:
    """Rank 0: F1 to 20, then it waits for a message until 74, then 6 of B0. The message takes
    20-74, of which nothing is hidden.
    """
    run = open_run(write_pipeline(tmp_path / "run"))
    found = select(run, 15_000, 80_000, [0])
    spent = {row["category"]: row["duration"] for row in found.accounting.to_pylist()}
    assert {name: ns // 1000 for name, ns in spent.items() if ns} == {"compute": 11, "comm:pp": 54}
    events = {(row["kind"], row["name"]): row for row in found.events.to_pylist()}
    forward, backward = events["forward", "F"], events["backward", "B"]
    assert (forward["count"], forward["duration"], forward["longest"]) == (1, 5_000, 10_000)
    assert (backward["count"], backward["duration"], backward["longest"]) == (1, 6_000, 20_000)
    assert "step" not in {kind for kind, _ in events}
    assert found.events["kind"][0].as_py() == "wait"  # the longest part comes first


def test_all_ranks_and_their_bytes(tmp_path: Path) -> None:
    """Between 50 and 53 only the message of rank 2 to rank 1 is sent, at 52."""
    run = open_run(write_pipeline(tmp_path / "run"))
    found = select(run, 50_000, 53_000)
    assert pc.unique(found.accounting["rank"]).to_pylist() == [0, 1, 2]
    sends = found.events.filter(pc.equal(found.events["kind"], "send")).to_pylist()
    assert [(row["count"], row["bytes"]) for row in sends] == [(1, 4000)]


@given(st.tuples(st.floats(0, 1), st.floats(0, 1)), st.sets(st.sampled_from(SAMPLE.ranks)))
def test_every_rank_closes_to_the_stretch(edges: tuple[float, float], ranks: set[int]) -> None:
    begin, end = (int(edge * SAMPLE.duration_ns) for edge in sorted(edges))
    end = max(end, begin + 1)
    found = select(SAMPLE, begin, end, ranks or None)
    sums = found.accounting.group_by("rank").aggregate([("duration", "sum")])
    assert set(sums["duration_sum"].to_pylist()) == {end - begin}
    assert set(sums["rank"].to_pylist()) == (ranks or set(SAMPLE.ranks))


@pytest.mark.parametrize(("begin", "end", "ranks"), [(5, 5, None), (9, 5, None), (0, 5, {77})])
def test_nothing_selected_says_so(begin: int, end: int, ranks: set[int] | None) -> None:
    with pytest.raises(UsageError, match="nothing is selected"):
        select(SAMPLE, begin, end, ranks)
