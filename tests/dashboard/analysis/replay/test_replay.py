"""The dependency graph: replayed as recorded it gives back the run; changed, what paper says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.replay import edges
from dashboard.analysis.replay.edges import in_rows
from dashboard.analysis.replay.graph import Graph, dependency_graph
from dashboard.analysis.replay.replay import (
    replay,
    step_times,
    with_pieces,
    with_transfers,
)
from tests.support.pipeline_toy import STEP_END, write_pipeline
from tests.support.toy import Event, RankFacts, write_run

SAMPLES = sorted(path.parent for path in Path("sample_traces").glob("*/run.json"))


def _graph(path: Path, *, steps: int = 1) -> Graph:
    return dependency_graph(open_run(write_pipeline(path / "run", steps=steps)))


def _faster(graph: Graph, *, stage: int, factor: float) -> np.ndarray:
    """The weights with the compute of a stage taking `factor` times as long."""
    durations = graph.pieces["duration"].to_numpy().copy()
    for at, piece in enumerate(graph.pieces.to_pylist()):
        if piece["category"] == "compute" and piece["stage"] == stage:
            durations[at] = durations[at] * factor
    return with_pieces(graph, durations)


def test_as_recorded_every_point_lies_where_it_was_measured(tmp_path: Path) -> None:
    graph = _graph(tmp_path, steps=3)
    assert replay(graph).tolist() == graph.time.tolist()
    assert step_times(graph, graph.time).lengths.tolist() == [STEP_END * 1000] * 2


def test_what_the_ranks_do_by_themselves_on_paper(tmp_path: Path) -> None:
    """Rank 1 waits 0-11, 31-53 and 73-83 for others; its receive at 21 found the message there."""
    pieces = [row for row in _graph(tmp_path).pieces.to_pylist() if row["rank"] == 1]
    found = [(row["start"] // 1000, row["duration"] // 1000, row["name"]) for row in pieces]
    assert found == [
        (11, 10, "F"),
        (21, 10, "F"),
        (53, 20, "B"),
        (83, 20, "B"),
        (103, 2, "SGD.step"),
        (105, 25, "no span"),
    ]


def test_a_stage_twice_as_fast_on_paper(tmp_path: Path) -> None:
    """Stage 2 in half the time: F0 22-27, B0 27-37, F1 37-42, B1 42-52 there.

    Its B0 reaches rank 1 at 38, which does B0 38-58 and B1 (there since 53) 58-78. Rank 0 hears of
    them at 59 and 79: B0 59-79, B1 79-99. The 6 from there to the end of the step stay: 105.
    """
    graph = _graph(tmp_path)
    times = replay(graph, _faster(graph, stage=2, factor=0.5))
    ends = step_times(graph, times)
    assert ends.lengths.tolist() == [105 * 1000]


def test_messages_that_take_no_time_on_paper(tmp_path: Path) -> None:
    """Rank 0 ends 4 earlier, since four messages lie on the path to rank 2 and back; rank 1 ends 3
    and rank 2 only 2 earlier, and what they do after their last action stays as long: 128.
    """
    graph = _graph(tmp_path)
    none = np.zeros(graph.transfers.num_rows, np.int64)
    times = replay(graph, with_transfers(graph, graph.weight, none))
    assert step_times(graph, times).lengths.tolist() == [(STEP_END - 2) * 1000]


def test_the_last_to_arrive_at_a_collective_holds_up_the_others(tmp_path: Path) -> None:
    """Ranks work 20 and 50, then all_reduce for 10: 60. If the slow one took 25, then 35."""
    group = "dp:0-1"
    groups = {group: {"ranks": [0, 1], "dim": "dp"}}

    def events(work: int) -> list[Event]:
        call = Event(
            start=work, duration=60 - work, kind="collective", name="all_reduce", group=group,
            seq=0, bytes=400, count=100, dtype="float32",
        )  # fmt: skip
        return [
            Event(start=0, duration=work, kind="forward", name="F", stage=0, microbatch=0),
            call,
            Event(start=0, duration=60, kind="step", name="step"),
        ]

    path = write_run(
        tmp_path / "run",
        {0: events(20), 1: events(50)},
        facts={r: RankFacts(coordinates={"dp": r}, groups=groups) for r in (0, 1)},
        scale=1000,
    )
    graph = dependency_graph(open_run(path))
    assert replay(graph).tolist() == graph.time.tolist()
    durations = graph.pieces["duration"].to_numpy().copy()
    for at, piece in enumerate(graph.pieces.to_pylist()):
        if (piece["rank"], piece["category"]) == (1, "compute"):
            durations[at] = 25_000
    times = replay(graph, with_pieces(graph, durations))
    # Rank 1 arrives last still, at 25; the transfer of 10 follows.
    assert step_times(graph, times).lengths.tolist() == [35_000]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_recorded_runs_are_given_back(sample: Path) -> None:
    graph = dependency_graph(open_run(sample))
    assert len(graph.steps) > 10
    assert replay(graph).tolist() == graph.time.tolist()


@settings(max_examples=25, deadline=None)
@given(
    factors=st.lists(st.floats(0.1, 1.0), min_size=3, max_size=3),
)
def test_less_work_never_takes_longer(
    tmp_path_factory: pytest.TempPathFactory, factors: list[float]
) -> None:
    graph = _graph(tmp_path_factory.mktemp("runs"), steps=2)
    durations = graph.pieces["duration"].to_numpy().copy()
    for at, piece in enumerate(graph.pieces.to_pylist()):
        durations[at] = durations[at] * factors[piece["rank"]]
    times = replay(graph, with_pieces(graph, durations))
    assert (times <= graph.time).all()
    lengths = step_times(graph, times).lengths
    assert (lengths <= STEP_END * 1000).all()
    assert (lengths > 0).all()


def test_rows_come_in_order_whatever_lies_in_memory_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    columns = np.arange(7), 10 * np.arange(7)
    expected = [(number, 10 * number) for number in range(7)]
    for at_once in (1, 3, 7, 100):
        monkeypatch.setattr(edges, "_AT_ONCE", at_once)
        assert list(in_rows(*columns)) == expected
    assert list(in_rows(np.zeros(0, np.int64))) == []
