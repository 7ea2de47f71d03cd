"""The same operation on other ranks, by stage where ranks share one, else across stages."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from dashboard import open_run
from dashboard.runs.words import have
from dashboard.timeline.build import build_timeline
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.same import same_elsewhere
from tests.support.pipeline_toy import write_pipeline
from tracer.errors import UsageError

SAMPLE = open_run(Path(__file__).parents[3] / "sample_traces" / "pp2-tp2-1f1b")


def _row(timeline: Timeline, rank: int, kind: str, microbatch: int, step: int) -> int:
    table = timeline.tables[rank]
    match = pc.and_(have(table["kind"], (kind,)), pc.equal(table["microbatch"], microbatch))
    return int(pc.indices_nonzero(pc.and_(match, pc.equal(table["step"], step)))[0].as_py())


def test_stages_of_their_own_are_laid_beside_each_other(tmp_path: Path) -> None:
    """F1 begins at 10, 21 and 52 on ranks 0, 1 and 2, and takes 10 on each."""
    timeline = build_timeline(open_run(write_pipeline(tmp_path / "run")))
    found = same_elsewhere(timeline, 1, _row(timeline, 1, "forward", 1, 0))
    assert [(one["rank"], one["start"], one["duration"]) for one in found["ranks"]] == [
        (0, 10_000, 10_000),
        (1, 21_000, 10_000),
        (2, 52_000, 10_000),
    ]
    assert (found["median"], found["left_out"]) == (10_000, 0)


def test_ranks_that_share_a_stage_are_compared_with_each_other() -> None:
    timeline = build_timeline(SAMPLE)
    step = SAMPLE.steps[-1]
    found = same_elsewhere(timeline, 3, _row(timeline, 3, "backward", 1, step))
    stage = SAMPLE.facts[3].stages
    assert {one["rank"] for one in found["ranks"]} == {
        rank for rank in SAMPLE.ranks if SAMPLE.facts[rank].stages == stage
    }
    durations = [one["duration"] for one in found["ranks"]]
    assert durations == sorted(durations, reverse=True)


def test_no_such_event_says_so() -> None:
    timeline = build_timeline(SAMPLE)
    for rank, row in ((99, 0), (0, 10**9), (0, -1)):
        with pytest.raises(UsageError, match="has no event"):
            same_elsewhere(timeline, rank, row)
