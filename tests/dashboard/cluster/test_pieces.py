"""What is read by a task follows the events: many short ranks share one, a long one has several."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.generate import simulated
from benchmarks.simulated.writing import Hosts
from benchmarks.simulated.writing import write_run as write_simulated
from dashboard import Run, open_run
from dashboard.analysis.communication import shares
from dashboard.analysis.communication.bandwidth import measure_bandwidth
from dashboard.analysis.pipeline.actions import pipelines
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.time_spent.accounting import account
from dashboard.cluster import Elsewhere, InProcess, pieces
from dashboard.cluster.pieces import EVENTS_PER_TASK, Piece, bundles, pieces_of
from dashboard.cluster.places import Advance
from dashboard.cluster.tasks import Tasks


def _of(ranks: int, steps: int, events: int) -> Any:
    """A run of so many events per rank and step."""
    return cast(
        "Run",
        SimpleNamespace(
            ranks=tuple(range(ranks)), steps=tuple(range(steps)), event_count=ranks * steps * events
        ),
    )


def test_the_number_of_tasks_follows_the_events_and_not_the_ranks() -> None:
    few, many = (
        pieces_of(_of(ranks, 10, 1_024_000 // ranks), tuple(range(10)), None, aligned=1)
        for ranks in (2, 1_024)
    )
    assert len(few) == 2 * 3, "of the five million events of a rank a task has two at most"
    assert len(many) == 86, "10,000 events of a rank: 12 of them make 125,000"
    # 10,000 ranks and 10 million events in all: 1,000 of a rank, 125 ranks to a task.
    assert len(pieces_of(_of(10_000, 10, 100), tuple(range(10)), None, aligned=1_250)) == 80


@given(
    ranks=st.integers(1, 60),
    steps=st.integers(1, 20),
    events=st.integers(1, 500_000),
    per_task=st.none() | st.integers(1, 30),
    aligned=st.integers(1, 60),
)
def test_pieces_are_all_of_a_run_once_and_never_too_large(
    ranks: int, steps: int, events: int, per_task: int | None, aligned: int
) -> None:
    run = _of(ranks, steps, events)
    found = pieces_of(run, run.steps, per_task, aligned)
    told = [(rank, step) for piece in found for rank in piece.ranks for step in piece.steps]
    assert len(told) == len({*told}) == ranks * steps
    order = [(piece.ranks[0], piece.steps[0]) for piece in found]
    assert order == sorted(order)
    for piece in found:
        if per_task is None and len(piece.steps) > 1:
            assert len(piece.ranks) * len(piece.steps) * events <= EVENTS_PER_TASK + events
        if per_task is not None:
            assert len(piece.ranks) == 1
            assert len(piece.steps) <= per_task


def test_pipelines_whose_stages_lie_far_apart_share_pieces() -> None:
    """Four stages of 12 pipelines: pieces of 6 ranks and not of 7, so that 6 pipelines have the
    same four.
    """
    run = _of(48, 10, 1_700)
    found = pieces_of(run, run.steps, None, aligned=12)
    assert {len(piece.ranks) for piece in found} == {6}
    groups = [tuple(range(at, 48, 12)) for at in range(12)]
    assert bundles(found, groups) == {(0, 2, 4, 6): [*range(6)], (1, 3, 5, 7): [*range(6, 12)]}
    halves = [Piece(ranks=(0, 1), place=0, steps=(0,)), Piece(ranks=(2, 3), place=0, steps=(0,))]
    assert bundles(halves, [(0, 2), (1, 3), (0, 1)]) == {(0, 1): [0, 1], (0,): [2]}


def test_ranks_that_share_a_task_give_what_each_gives_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = simulated(pipeline=2, tensor=2, data=12, microbatches=4, jitter=0.02)
    write_simulated(tmp_path / "run", training, steps=3, hosts=Hosts(ranks_per_host=8))
    run = open_run(tmp_path / "run")
    analyses = (account, measure_bubbles, measure_bandwidth)
    expected = [run.answer(analysis) for analysis in analyses]
    assert "dp=10,tp=0" in pipelines(run), "which comes before dp=2 and lies behind it"
    of_rank = run.event_count / len(run.ranks)
    names: list[str] = []
    do = InProcess.do

    def told(self: InProcess, tasks: Tasks, wanted: Collection[str], advance: Advance) -> Any:
        names[:] = tasks
        return do(self, tasks, wanted, advance)

    monkeypatch.setattr(InProcess, "do", told)
    for together, in_a_share in ((5, 20), (20, 5)):
        monkeypatch.setattr(pieces, "FEWEST_EVENTS", together * of_rank + 1)
        monkeypatch.setattr(shares, "EVENTS", in_a_share * of_rank)
        monkeypatch.setattr(shares, "OPERATIONS", 50)
        parts = open_run(tmp_path / "run")
        parts.elsewhere = Elsewhere(parts, InProcess(), analyses)
        for analysis, answer in zip(analyses, expected, strict=True):
            tables = parts.answer(analysis).tables()
            assert {name: table.to_pylist() for name, table in tables.items()} == {
                name: table.to_pylist() for name, table in answer.tables().items()
            }
        assert sum(name.startswith("part-") for name in names) < len(run.ranks) / 3
        assert sum(name.startswith("matched-") for name in names) > 1
