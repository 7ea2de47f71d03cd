"""Many replays at once say what one after the other says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboard import open_run
from dashboard.analysis.replay import replays as at_once
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.replay import replay
from dashboard.analysis.replay.replays import replays
from tests.support.toy import Event, write_run

SAMPLES = sorted(path.parent for path in Path("sample_traces").glob("*/run.json"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_times_are_those_of_single_replays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = dependency_graph(open_run(path))
    chance = np.random.default_rng(20_261_127)
    weights = [graph.weight, *(chance.permutation(graph.weight) for _ in range(4))]
    monkeypatch.setattr(at_once, "_AT_ONCE", 2 * (len(graph.time) + len(graph.weight)))
    found = list(replays(graph, iter(weights)))
    assert found[0].tolist() == graph.time.tolist()
    for times, weight in zip(found, weights, strict=True):
        np.testing.assert_array_equal(times, replay(graph, weight))
    assert any((times != graph.time).any() for times in found)


def test_of_points_without_edges_and_of_no_weights(tmp_path: Path) -> None:
    """One rank, one step, nothing in it: one edge, from its begin to its end."""
    window = Event(start=0, duration=10, kind="step", step=0)
    graph = dependency_graph(open_run(write_run(tmp_path, {0: [window]})))
    assert list(replays(graph, [])) == []
    assert [times.tolist() for times in replays(graph, [np.array([4])])] == [[0, 4]]
