"""Step time by operation, on paper, against the accounting, and on recorded runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.analysis.time_spent.time_by_operation import OTHERWISE, time_by_operation
from tests.support.any_events import any_events
from tests.support.pipeline_toy import STEP_END, write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT


def spent(run: Run, *columns: str) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for rank in run.ranks:
        time = time_by_operation(run, rank)
        for key, row in zip(time.keys, time.values.tolist(), strict=True):
            for step, ns in zip(time.steps.tolist(), row, strict=True):
                names = ("rank", "step", "category", "kind", "name", "stage")
                told = dict(zip(names, (rank, step, *key), strict=True))
                found[tuple(told[name] for name in columns)] += ns
    return +found


def test_the_pipeline_on_paper(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a"))
    found = spent(run, "rank", "category", "kind", "stage")
    # Rank 0 of docs/concepts.md: 20 forward, 40 backward, 2 optimizer, 64 waiting, 4 idle.
    assert {key[1:]: ns / 1000 for key, ns in found.items() if key[0] == 0} == {
        ("compute", "forward", 0): 20,
        ("compute", "backward", 0): 40,
        ("optimizer", "optimizer", 0): 2,
        ("comm:pp", "wait", 0): 64,
        ("idle", "", 0): 4,
    }


def test_a_wait_inside_a_forward_is_the_waits(tmp_path: Path) -> None:
    events = {
        0: [
            Event(start=0, duration=20, kind="step"),
            Event(start=0, duration=10, kind="forward", name="F", stage=0),
            Event(start=4, duration=4, kind="wait", name="recv", stage=0, group="pp:0-1"),
        ]
    }
    facts = {0: RankFacts(coordinates={"pp": 0}, stages=(0, 2))}
    run = open_run(write_run(tmp_path / "a", events, facts=facts))
    assert spent(run, "category", "kind", "name", "stage") == {
        ("compute", "forward", "F", 0): 6,
        ("comm:pp", "wait", "recv", 0): 4,
        # The rank holds two stages, so what names none belongs to none.
        ("idle", "", OTHERWISE, None): 10,
    }


def test_an_operation_across_the_end_of_a_step_is_split(tmp_path: Path) -> None:
    events = {
        0: [
            Event(start=0, duration=10, kind="step", step=0),
            Event(start=10, duration=10, kind="step", step=1),
            Event(start=8, duration=5, kind="data", name="load", step=0),
        ]
    }
    run = open_run(write_run(tmp_path / "a", events))
    found = spent(run, "step", "category")
    assert (found[0, "data"], found[1, "data"], found[1, "idle"]) == (2, 3, 7)


def test_steps_that_lie_in_each_other_or_overlap_have_all_of_their_time(tmp_path: Path) -> None:
    """As in damaged streams: step 1 lies in step 0, and step 2 begins before that ends."""
    events = {
        0: [
            Event(start=0, duration=100, kind="step", step=0),
            Event(start=20, duration=10, kind="step", step=1),
            Event(start=90, duration=30, kind="step", step=2),
            Event(start=10, duration=40, kind="forward", name="F", step=0),
            Event(start=95, duration=15, kind="backward", name="B", step=2),
        ]
    }
    run = open_run(write_run(tmp_path / "a", events))
    assert spent(run, "step", "kind") == {
        (0, "forward"): 40, (0, "backward"): 5, (0, ""): 55,
        (1, "forward"): 10,
        (2, "backward"): 15, (2, ""): 15,
    }  # fmt: skip
    assert_agrees_with_the_accounting(run)


def test_communication_that_compute_hides_has_no_time_of_the_device(tmp_path: Path) -> None:
    # The device works 0-40; a reduction is under way 30-60 on its communication stream, for which
    # the stream that works waits 40-60. The host launches 70-80; a barrier of the host alone 80-90.
    comm = {"kind": "collective", "group": "dp:0-1", "correlation": 1, "name": "all_reduce"}
    events = [
        Event(start=0, duration=100, kind="step"),
        Event(start=0, duration=40, kind="backward", name="B", lane="device:7"),
        Event(start=30, duration=30, lane="device:7 communication", **comm),
        Event(start=40, duration=20, lane="device:7", **comm | {"kind": "wait"}),
        Event(start=70, duration=10, kind="forward", name="F"),
        Event(start=80, duration=10, **comm | {"name": "barrier", "correlation": 2}),
    ]
    run = open_run(write_run(tmp_path / "a", {0: events}))
    assert spent(run, "category", "kind", "name") == {
        ("compute", "backward", "B"): 40,
        ("comm:dp", "wait", "all_reduce"): 20,
        ("comm:dp", "collective", "barrier"): 10,
        ("host", "forward", "F"): 10,
        ("idle", "", OTHERWISE): 20,
    }


def assert_agrees_with_the_accounting(run: Run) -> None:
    accounting = run.accounting()
    lengths = {(w["rank"], w["step"]): w["duration"] for w in accounting.windows.to_pylist()}
    assert spent(run, "rank", "step") == lengths
    by_category: Counter[tuple[object, ...]] = Counter()
    for row in accounting.table.to_pylist():
        by_category[row["rank"], row["step"], row["category"]] += row["duration"]
    assert spent(run, "rank", "step", "category") == +by_category


@pytest.mark.parametrize("name", ["pp4-1f1b-slow-stage", "pp2-tp2-1f1b", "pp4-gpipe"])
def test_recorded_runs_add_up_and_agree_with_the_accounting(name: str) -> None:
    assert_agrees_with_the_accounting(open_run(ROOT / "sample_traces" / name))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(any_events())
def test_any_events_agree_with_the_accounting(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    assert_agrees_with_the_accounting(
        open_run(write_run(tmp_path_factory.mktemp("agrees"), {0: events}))
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(any_events(), st.lists(st.tuples(st.integers(-50, 420), st.integers(1, 300)), max_size=4))
def test_any_windows_add_up_and_agree_with_the_accounting(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[Event],
    windows: list[tuple[int, int]],
) -> None:
    steps = [
        Event(start=start, duration=long, kind="step", step=number)
        for number, (start, long) in enumerate(windows, start=1)
    ]
    assert_agrees_with_the_accounting(
        open_run(write_run(tmp_path_factory.mktemp("windows"), {0: [*events, *steps]}))
    )


def test_the_toy_has_no_time_beyond_its_step(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a", steps=3))
    assert set(spent(run, "rank", "step").values()) == {STEP_END * 1000}
