"""Long runs are replayed in stretches: which, and that what is found stays what it was."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.generate import simulated
from benchmarks.simulated.training import Straggler
from benchmarks.simulated.writing import Hosts, write_run
from dashboard import Run, open_run
from dashboard.analysis.replay import replayed_steps as budget
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.replay import counted_steps, measured_step_times, step_times
from dashboard.analysis.replay.replayed_steps import replayed_steps
from tests.support.toy import Event
from tests.support.toy import write_run as write_toy
from tests.test_repo.markdown import ROOT

SAMPLES = sorted(path.parent for path in (ROOT / "sample_traces").glob("*/run.json"))


class _Counted:
    """As much of a run as `replayed_steps` looks at."""

    def __init__(self, steps: int, event_count: int) -> None:
        self.steps = tuple(range(steps))
        self.event_count = event_count


def test_the_example_of_its_docstring() -> None:
    per_step = budget.MOST_EVENTS // 20
    run = _Counted(100, 100 * per_step)
    apart = (*range(8, 12), *range(28, 32), *range(48, 52), *range(68, 72), *range(88, 92))
    assert replayed_steps(run).steps == apart
    assert replayed_steps(run, range(40, 60)).stretches == (tuple(range(40, 60)),)
    large = _Counted(100, 100 * budget.MOST_EVENTS)
    assert replayed_steps(large).stretches == ((23, 24, 25), (73, 74, 75))


@given(steps=st.integers(0, 3_000), per_step=st.integers(1, 2 * budget.MOST_EVENTS))
def test_never_more_than_the_budget_and_the_same_again(steps: int, per_step: int) -> None:
    run = _Counted(steps, steps * per_step)
    replayed = replayed_steps(run)
    chosen = replayed.steps
    assert list(chosen) == sorted(set(chosen))
    most = max(budget.MOST_EVENTS // per_step, budget.FEWEST_STEPS)
    assert len(chosen) <= most
    assert len(chosen) >= min(steps, most) * 0.5
    assert replayed_steps(run, chosen).steps == chosen
    assert bool(replayed.notes(1)) == (len(chosen) < steps)
    assert all(list(s) == list(range(s[0], s[-1] + 1)) for s in replayed.stretches)


def test_steps_with_pauses_between_them_all_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a chain by itself: none leads in, and all six that are replayed are measured."""
    monkeypatch.setattr(budget, "MOST_EVENTS", 1)
    events = [
        Event(start=200 * number, step=number, duration=100, kind="step") for number in range(60)
    ]
    run = open_run(write_toy(tmp_path / "run", {0: events}))
    replayed = replayed_steps(run)
    assert counted_steps(run.accounting().windows, replayed) == len(replayed.steps) == 6
    (note,) = run.critical_path().notes
    assert note.startswith("6 of 60 steps are looked at, in 2 stretches over the run; ")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_step_times_need_no_graph(sample: Path) -> None:
    """Of all steps, of some in a row, and of some apart, on recorded runs."""
    run = open_run(sample)
    for steps in (None, run.steps[2:7], run.steps[1:3] + run.steps[6:9], run.steps[::3]):
        graph = dependency_graph(run, steps)
        with_graph, without = step_times(graph, graph.time), measured_step_times(run, steps)
        assert with_graph.steps == without.steps
        assert with_graph.lengths.tolist() == without.lengths.tolist()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """60 steps, in which rank 5 is always slow by a half."""
    slow = Straggler(rank=5, first=0, end=60, slow=1.5)
    training = simulated(pipeline=2, tensor=2, data=2, microbatches=2, stragglers=(slow,), seed=7)
    path = tmp_path_factory.mktemp("long") / "run"
    write_run(path, training, steps=60, hosts=Hosts(ranks_per_host=8))
    return open_run(path)


def test_of_a_long_run_the_same_is_found_from_stretches(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run.stragglers()
    monkeypatch.setattr(budget, "MOST_EVENTS", run.event_count // 3)
    again = open_run(run.path)
    some = again.stragglers()

    assert whole.notes == ()
    assert some.notes == (
        "15 of 60 steps are looked at, in 5 stretches over the run; a range of steps "
        "(--step A:B) chooses others",
    )
    assert abs(some.replay_error) < 1e-5, "stretches replay to what was measured"
    assert whole.found[0].rank == some.found[0].rank == 5
    assert some.found[0].ms_per_step == pytest.approx(whole.found[0].ms_per_step, rel=0.1)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_critical_paths_in_stretches_are_those_of_the_whole_run(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_run(sample).critical_path()
    run = open_run(sample)
    monkeypatch.setattr(budget, "MOST_EVENTS", run.event_count * 7 // len(run.steps))
    some = run.critical_path()
    followed = some.steps["step"]
    assert 0 < len(followed) < whole.steps.num_rows
    assert some.segments.equals(whole.segments.filter(pc.is_in(whole.segments["step"], followed)))
    replayed = replayed_steps(run).steps
    assert some.notes[0].startswith(f"{len(followed)} of {len(run.steps)} steps are looked at")
    leading = {step for step in replayed if step - 1 not in replayed}
    assert {*followed.to_pylist()} == {*replayed} - leading, "the first of a stretch leads in"
