"""What is found by replay, divided by ranks and stretches of steps, is what one look finds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.generate import simulated
from benchmarks.simulated.writing import Hosts
from benchmarks.simulated.writing import write_run as write_simulated
from dashboard import Run, open_run
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.replay import replayed_steps as budget
from dashboard.analysis.stragglers.stragglers import find_stragglers
from dashboard.analysis.whole_run.findings import findings
from dashboard.analysis.whole_run.flops import flops_utilization
from dashboard.cluster import Elsewhere, InProcess, replays
from dashboard.cluster.places import Advance
from dashboard.cluster.tasks import Ready, Task, Tasks
from tests.dashboard.analysis.test_device_view import on_devices
from tests.test_repo.markdown import ROOT

TOGETHER = (measure_bubbles, flops_utilization, findings, find_stragglers)


def _said(run: Run) -> Mapping[str, Any]:
    return {
        "stragglers": run.stragglers().to_json(),
        "findings": [finding.to_json() for finding in run.answer(findings)],
        "flops": run.answer(flops_utilization).to_json(),
    }


class OneByOne:
    """As workers do it, but here, where a smaller budget of events is known."""

    def do(self, tasks: Tasks, wanted: Collection[str], advance: Advance) -> dict[str, Any]:
        assert {"strands-0", "graph-0", "stragglers", "plans", "findings", "flops"} <= {*tasks}
        return InProcess().do(tasks, wanted, advance)


def _by_parts(path: Path) -> Mapping[str, Any]:
    run = open_run(path)
    run.elsewhere = Elsewhere(run, OneByOne(), TOGETHER, steps_per_task=5)
    return _said(run)


def test_several_stretches_of_steps_of_several_ranks_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = simulated(pipeline=2, tensor=1, data=2, microbatches=4, jitter=0.3, seed=7)
    write_simulated(tmp_path / "run", training, steps=20, hosts=Hosts(ranks_per_host=4))
    run = open_run(tmp_path / "run")
    monkeypatch.setattr(budget, "MOST_EVENTS", run.event_count * 12 // 20)
    monkeypatch.setattr(replays, "RANKS_PER_TASK", 3)
    whole = _said(run)
    assert len(whole["stragglers"]["steps"]) == 8, "of four stretches all but the first steps"
    assert whole["findings"]
    assert len(budget.replayed_steps(run).steps) == 12
    assert _by_parts(tmp_path / "run") == whole


@pytest.mark.parametrize("name", ["pp4-1f1b-slow-stage", "pp2-tp2-1f1b"])
def test_a_run_that_is_replayed_whole(name: str) -> None:
    path = ROOT / "sample_traces" / name
    assert _by_parts(path) == _said(open_run(path))


def test_a_run_whose_devices_did_the_work(tmp_path: Path) -> None:
    path = on_devices(tmp_path / "run").path
    assert _by_parts(path) == _said(open_run(path))


@given(needs=st.lists(st.sets(st.integers(0, 11)), max_size=12), data=st.data())
def test_every_task_is_ready_once_and_after_what_it_needs(
    needs: list[set[int]], data: st.DataObject
) -> None:
    tasks = {
        str(place): Task(call=str, needs=tuple(str(n) for n in sorted(of) if n < place))
        for place, of in enumerate(needs)
    }
    known = {name for name in tasks if not tasks[name].needs and data.draw(st.booleans())}
    ready, done, running = Ready(tasks, known), set(known), list[str]()
    while ready or running:
        while ready:
            running.append(ready.pop())
            assert running[-1] not in done
            assert {*tasks[running[-1]].needs} <= done
        name = running.pop(data.draw(st.integers(0, len(running) - 1)))
        done.add(name)
        ready.completed(name)
    assert done == {*tasks}
