"""What is held at a time does not grow with the run: rows of a share, actions of a step."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.generate import simulated
from benchmarks.simulated.writing import Hosts
from benchmarks.simulated.writing import write_run as write_simulated
from dashboard import Run, open_run
from dashboard.analysis.communication import bandwidth, shares
from dashboard.analysis.communication.partial_communication import PartialCommunication
from dashboard.analysis.comparing.compared_sums import strata
from dashboard.analysis.pipeline import actions
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.cluster import Elsewhere, InProcess, places
from dashboard.cluster import communication as by_shares
from dashboard.cluster.shelf import Shelf
from dashboard.cluster.summaries import Summary
from tests.support.toy import Event, RankFacts, write_run

_EVENTS = 2_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Eight ranks, 8 steps and 64."""
    directory = tmp_path_factory.mktemp("runs")
    training = simulated(pipeline=2, tensor=2, data=2, microbatches=4, jitter=0.02)
    for steps in (8, 64):
        write_simulated(
            directory / str(steps), training, steps=steps, hosts=Hosts(ranks_per_host=8)
        )
    return open_run(directory / "8"), open_run(directory / "64")


def test_more_steps_make_more_shares_and_not_larger_ones(
    runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "EVENTS", _EVENTS)
    most, count = {}, {}
    for run in runs:
        sizes: list[int] = []

        def matched(of: Run, found: PartialCommunication, sizes: list[int] = sizes) -> Any:
            sizes.append(sum(t.num_rows for t in (found.collectives, found.sends, found.receives)))
            return bandwidth.complete_operations(of, found)

        monkeypatch.setattr(by_shares, "complete_operations", matched)
        found = Elsewhere(run, InProcess(), (bandwidth.bandwidth_summary,))(
            bandwidth.bandwidth_summary, run.steps
        )
        assert found.equals(run.bandwidth().summary)
        assert sum(sizes) > run.event_count / 10, "communication was recorded"
        most[len(run.steps)], count[len(run.steps)] = max(sizes), len(sizes)
    assert max(most.values()) <= _EVENTS
    assert runs[1].event_count > 10 * _EVENTS
    assert count[64] > 2 * count[8]


def test_a_group_of_the_whole_run_is_parted_by_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two ranks: 50 all_reduce of 8 B, and one message in a group that nobody declared."""
    monkeypatch.setattr(shares, "EVENTS", 20)
    groups = {"dp:0-1": {"dim": "dp", "ranks": [0, 1]}}
    events = {}
    for rank in (0, 1):
        kind, seqs = ("send", "recv")[rank], range(50)
        common: dict[str, Any] = {
            "kind": "collective",
            "name": "all_reduce",
            "bytes": 8,
            "duration": 3,
        }
        events[rank] = [
            Event(start=0, duration=1_000, kind="step", step=0),
            *(Event(start=10 * n + rank, group="dp:0-1", seq=n, **common) for n in seqs),
            Event(
                start=900, duration=5 + rank, kind=kind, name=kind, group="pp:0-1", seq=3, bytes=4,
                peer=1 - rank,
            ),
        ]  # fmt: skip
    facts = {rank: RankFacts(coordinates={"dp": rank}, groups=groups) for rank in (0, 1)}
    run = open_run(write_run(tmp_path / "run", events, facts=facts))
    every = shares.shares(run)
    # 104 events are 5.2 shares of 20.
    assert [share.of for share in every[:-1] if "dp:0-1" in share.groups] == [6] * 6
    assert every[-1].rest
    found = Elsewhere(run, InProcess(), (bandwidth.bandwidth_summary,))(
        bandwidth.bandwidth_summary, run.steps
    )
    rows = {(row["group"], row["op"]): row for row in found.to_pylist()}
    # Both ranks see 3 ns of their own; the last arrival is 1 ns late, and the last end 4 ns on.
    whole = rows["dp:0-1", "all_reduce"]
    assert (whole["count"], whole["bytes_total"]) == (50, 400)
    assert whole["algbw_seen"] == pytest.approx(8 / 3)
    assert whole["algbw_skew_free"] == pytest.approx(8 / 3)
    assert whole["skew_ns_mean"] == 1
    assert rows["pp:0-1", "p2p"]["count"] == 1
    assert found.equals(run.bandwidth().summary)


def test_sums_of_a_comparison_do_not_wait_for_all_parts(
    runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight ranks, four windows of 16 steps: up to 4 parts of each, and their sum so far."""
    run = runs[1]
    sums = strata(run.ranks, [])
    most = 0

    class Counting(Shelf):
        def __setitem__(self, name: Hashable, result: Any) -> None:
            nonlocal most
            super().__setitem__(name, result)
            most = max(most, sum(isinstance(kept, Summary) for kept in self.values()))

    monkeypatch.setattr(places, "Shelf", Counting)
    found = Elsewhere(run, InProcess(), (sums,), steps_per_task=16)(sums, run.steps)
    assert most <= 4 * 5 + 1 < 8 * 4
    expected = sums(run)
    assert found.time.keys == expected.time.keys
    assert found.time.values.tolist() == expected.time.values.tolist()
    assert found.calls.values.tolist() == expected.calls.values.tolist()
    assert found.pipelines.busy.tolist() == expected.pipelines.busy.tolist()


def test_bubbles_and_plan_bounds_make_no_object_of_an_action(
    runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs[1]
    expected = measure_bubbles(run).ranks
    made = 0

    class Counted(actions.Action):
        __slots__ = ()

        def __init__(self, **values: Any) -> None:
            nonlocal made
            super().__init__(**values)
            made += 1

    monkeypatch.setattr(actions, "Action", Counted)
    found: pa.Table = measure_bubbles(run).ranks
    assert found.equals(expected)
    assert made == 0
