"""Who waited for whom, on paper and against the stalls of a recorded pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.waits import waits_by_culprit
from tests.support.pipeline_toy import write_pipeline
from tests.support.straggler_toy import More, Toy
from tests.support.toy import Event, write_run

SAMPLES = Path(__file__).parents[4] / "sample_traces"


def test_messages_are_waited_for_until_they_are_sent(tmp_path: Path) -> None:
    """Rank 0 waits for rank 1 from 20 to 73 and from 94 to 103; rank 1 for rank 0 from 0 to 10,
    for rank 2 from 31 to 52 and from 73 to 82; rank 2 for rank 1 from 0 to 21. One unit is 1 µs.
    """
    found = waits_by_culprit(open_run(write_pipeline(tmp_path / "run", steps=2)))
    assert found.steps == 2
    assert [
        (row["rank"], row["culprit_rank"], row["wait_ns"] / 1000, row["dim"])
        for row in found.table.to_pylist()
    ] == [(0, 1, 62, "pp"), (1, 2, 30, "pp"), (2, 1, 21, "pp"), (1, 0, 10, "pp")]


def test_collectives_are_waited_for_until_the_last_arrives(tmp_path: Path) -> None:
    """Three ranks work 100; rank 2 works 30 longer in one of two steps: 15 per step for each."""
    toy = Toy(steps=2, more={(1, 2): More(work=30)})
    found = waits_by_culprit(open_run(toy.write(tmp_path / "run")))
    assert [
        (row["rank"], row["culprit_rank"], row["wait_ns"] / 1000) for row in found.table.to_pylist()
    ] == [(0, 2, 15), (1, 2, 15)]


def test_nobody_to_wait_for_is_no_row(tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=10, kind="step", name="step")]}
    assert waits_by_culprit(open_run(write_run(tmp_path / "run", events))).table.num_rows == 0


def test_in_a_recorded_run_the_neighbours_wait_most_for_the_slow_stage() -> None:
    """Stage 2 is slow: 3 waits for it directly, 0 through 1; and no one waits longer than a step.

    Stalls of the pipeline are part of that waiting, so each pair's is at least as long, but for
    the transfers and the host's own time, which nobody is waited for in.
    """
    run = open_run(SAMPLES / "pp4-1f1b-slow-stage")
    rows = {
        (row["rank"], row["culprit_rank"]): row["wait_ns"]
        for row in waits_by_culprit(run).table.to_pylist()
    }
    assert max(rows, key=lambda pair: rows[pair]) in ((0, 1), (3, 2))
    assert rows[3, 2] > 5 * rows[2, 3]
    step_ns = max(run.accounting().windows["duration"].to_pylist())
    for rank in run.ranks:
        assert sum(ns for (waiting, _), ns in rows.items() if waiting == rank) < step_ns
    assert rows[0, 1] == pytest.approx(215e6, rel=0.05)  # seen in the timeline, see docs
