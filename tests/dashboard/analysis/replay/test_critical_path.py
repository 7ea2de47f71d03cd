"""The critical path of the paper pipeline, and that it always has the length of its step."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.time_spent.leaves import leaves
from tests.support.pipeline_toy import STEP_END, write_pipeline
from tests.support.toy import Event, RankFacts, write_run


def test_path_on_paper(tmp_path: Path) -> None:
    found = open_run(write_pipeline(tmp_path / "run")).critical_path()
    rows = [
        (row["rank"], row["start"] // 1000, row["duration"] // 1000, row["name"], row["cause_rank"])
        for row in found.segments.to_pylist()
    ]
    # Every rank ends at 130; the walk starts on rank 0. Backwards: rank 0 works 104-124 after the
    # message that rank 1 sent at 103, rank 1 works 83-103 after the one that rank 2 sent at 82,
    # rank 2 works 22-82 after the one that rank 1 sent at 21, rank 1 works 11-21 after rank 0's.
    assert rows == [
        (0, 0, 10, "F", None),
        (1, 10, 1, "recv", 0),
        (1, 11, 10, "F", None),
        (2, 21, 1, "recv", 1),
        (2, 22, 10, "F", None),
        (2, 32, 20, "B", None),
        (2, 52, 10, "F", None),
        (2, 62, 20, "B", None),
        (1, 82, 1, "recv", 2),
        (1, 83, 20, "B", None),
        (0, 103, 1, "recv", 1),
        (0, 104, 20, "B", None),
        (0, 124, 2, "SGD.step", None),
        (0, 126, 4, "no span", None),
    ]
    spent: Counter[str] = Counter()
    for row in found.summary.to_pylist():
        spent[row["category"]] += round(row["ns_per_step"] / 1000)
    assert spent == {"compute": 120, "comm:pp": 4, "optimizer": 2, "idle": 4}


def test_length_is_the_step_time_on_every_step(tmp_path: Path) -> None:
    found = open_run(write_pipeline(tmp_path / "run", steps=3)).critical_path()
    assert found.steps["length_ns"].to_pylist() == [STEP_END * 1000] * 3
    for step in (0, 1, 2):
        rows = [row for row in found.segments.to_pylist() if row["step"] == step]
        assert sum(row["duration"] for row in rows) == STEP_END * 1000
        assert all(a["start"] + a["duration"] == b["start"] for a, b in pairwise(rows))


def test_steps_that_were_not_recorded_are_on_no_path(tmp_path: Path) -> None:
    # Of steps 0 to 6 only every third is recorded; each lasts 130, whatever lies between them.
    found = open_run(write_pipeline(tmp_path / "run", steps=3, every=3)).critical_path()
    assert found.steps["step"].to_pylist() == [0, 3, 6]
    assert found.steps["start"].to_pylist() == [0, 390_000, 780_000]
    assert found.steps["length_ns"].to_pylist() == [STEP_END * 1000] * 3


def test_the_last_to_arrive_at_a_collective_is_on_the_path(tmp_path: Path) -> None:
    # Rank 0 works 0-20 and waits in an all_reduce from 20 to 60; rank 1 works 0-50, joins at 50.
    # Both end at 70: the path is rank 1's work, then the collective's last 10 on rank 0.
    def rows(work: int) -> list[Event]:
        common = {"group": "dp:0-1", "seq": 0, "correlation": 1, "name": "all_reduce"}
        return [
            Event(start=0, duration=70, kind="step"),
            Event(start=0, duration=work, kind="forward", name="F", stage=0, microbatch=0),
            Event(start=work, duration=0, kind="collective", **common),
            Event(start=work, duration=60 - work, kind="wait", **common),
        ]

    facts = {
        rank: RankFacts(coordinates={"dp": rank}, groups={"dp:0-1": {"dim": "dp", "ranks": [0, 1]}})
        for rank in (0, 1)
    }
    run = open_run(write_run(tmp_path / "run", {0: rows(20), 1: rows(50)}, facts=facts))
    path = [
        (row["rank"], row["start"], row["duration"], row["category"])
        for row in run.critical_path().segments.to_pylist()
    ]
    assert path == [(1, 0, 50, "compute"), (0, 50, 10, "comm:dp"), (0, 60, 10, "idle")]


def test_no_steps_no_path(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=1, kind="forward")]}))
    found = run.critical_path()
    assert found.segments.num_rows == found.steps.num_rows == found.summary.num_rows == 0


def test_leaves_on_paper() -> None:
    pieces = leaves([(0, 10), (2, 4), (4, 5), (12, 13), (20, 20)])
    assert [(p.start, p.end, p.span) for p in pieces] == [
        (0, 2, 0), (2, 4, 1), (4, 5, 2), (5, 10, 0), (12, 13, 3),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=8))
def test_leaves_cover_what_the_spans_cover_once(drawn: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in drawn]
    pieces = leaves(spans)
    covered = [i for piece in pieces for i in range(piece.start, piece.end)]
    assert sorted(covered) == sorted({i for a, b in spans for i in range(a, b)})
    assert covered == sorted(covered)
    assert all(spans[p.span][0] <= p.start and p.end <= spans[p.span][1] for p in pieces)


@pytest.mark.parametrize("command", [["critical-path"], ["critical-path", "--json"]])
def test_command(tmp_path: Path, command: list[str]) -> None:
    from tests.dashboard.cli.test_commands import rankscope

    done = rankscope(*command, str(write_pipeline(tmp_path / "run", steps=2)))
    assert done.returncode == 0, done.stderr
    assert "compute" in done.stdout
