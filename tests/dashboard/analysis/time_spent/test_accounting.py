"""Accounting: the paper example, and that it always closes to the nanosecond."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from dashboard import Run, open_run
from dashboard.analysis.time_spent.claims import CATEGORIES, COMMUNICATION
from tests.support.any_events import STREAMS, any_events
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS


def spent(run: Run, rank: int, step: int = 0) -> dict[str, int]:
    rows = run.accounting().table.to_pylist()
    return {
        row["category"]: row["duration"]
        for row in rows
        if row["rank"] == rank and row["step"] == step and row["duration"]
    }


def test_pipeline_on_paper(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run"))
    # rank 0 waits 20-74 and 94-104; rank 1 waits 0-11, 31-53, 73-83; rank 2 waits 0-22.
    assert spent(run, 0) == {
        "compute": 60_000, "optimizer": 2_000, "comm:pp": 64_000, "idle": 4_000,
    }  # fmt: skip
    assert spent(run, 1) == {
        "compute": 60_000, "optimizer": 2_000, "comm:pp": 43_000, "idle": 25_000,
    }  # fmt: skip
    assert spent(run, 2) == {
        "compute": 60_000, "optimizer": 2_000, "comm:pp": 22_000, "idle": 46_000,
    }  # fmt: skip


def test_precedence_on_paper(tmp_path: Path) -> None:
    # One rank, step 0-100. Forward 0-40 holds a tensor-parallel all_reduce, call 10-12 and wait
    # 12-20: compute is 0-10 and 20-40. An asynchronous data-parallel collective is on the wire
    # 30-60: exposed 40-60. The optimizer runs 55-70 and takes 55-60 from it. Data 65-80: 70-80.
    events = [
        Event(start=0, duration=100, kind="step"),
        Event(start=0, duration=40, kind="forward", stage=0, microbatch=0),
        Event(start=10, duration=2, kind="collective", group="tp:0", seq=0, correlation=1),
        Event(start=12, duration=8, kind="wait", group="tp:0", seq=0, correlation=1),
        Event(start=30, duration=0, kind="collective", group="dp:0", seq=0, correlation=2),
        Event(
            start=30, duration=30, kind="collective", group="dp:0", seq=0, correlation=2,
            lane="device:gloo",
        ),
        Event(start=55, duration=15, kind="optimizer"),
        Event(start=65, duration=15, kind="data"),
    ]  # fmt: skip
    run = open_run(write_run(tmp_path / "run", {0: events}))
    assert spent(run, 0) == {
        "compute": 30, "optimizer": 15, "comm:tp": 10, "comm:dp": 15, "data": 10, "idle": 20,
    }  # fmt: skip
    overlap = {row["dim"]: row for row in run.accounting().overlap.to_pylist()}
    assert (overlap["tp"]["total_ns"], overlap["tp"]["exposed_ns"]) == (10, 10)
    assert (overlap["dp"]["total_ns"], overlap["dp"]["exposed_ns"]) == (30, 15)


def test_a_device_on_paper(tmp_path: Path) -> None:
    # Step 0-100. The host launches a forward 0-10 and a backward 10-20; the device works on them
    # 5-40 and 40-70. Inside the backward its stream is held up by a data-parallel all_reduce
    # 50-60, whose transfer on the communication stream is 45-60. The host launches the optimizer
    # 70-85 while the device has nothing to do until 80; it works on it 80-90.
    # Compute: 5-50 and 60-70. Exposed: 50-60. Host: 0-5 and 70-80. Idle: 90-100.
    comm = {"kind": "collective", "group": "dp:0", "seq": 0, "correlation": 1}
    events = [
        Event(start=0, duration=100, kind="step"),
        Event(start=0, duration=10, kind="forward"),
        Event(start=10, duration=10, kind="backward"),
        Event(start=12, duration=1, **comm),
        Event(start=14, duration=1, **comm | {"kind": "wait"}),
        Event(start=5, duration=35, kind="forward", lane="device:7"),
        Event(start=40, duration=30, kind="backward", lane="device:7"),
        Event(start=45, duration=15, **comm, lane="device:nccl dp:0"),
        Event(start=50, duration=10, **comm | {"kind": "wait"}, lane="device:7"),
        Event(start=70, duration=15, kind="optimizer"),
        Event(start=80, duration=10, kind="optimizer", lane="device:7"),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    assert spent(run, 0) == {
        "compute": 55, "optimizer": 10, "comm:dp": 10, "host": 15, "idle": 10,
    }  # fmt: skip
    (overlap,) = run.accounting().overlap.to_pylist()
    assert (overlap["total_ns"], overlap["exposed_ns"]) == (15, 10)


def test_another_stream_that_waits_holds_up_no_work(tmp_path: Path) -> None:
    # Stream 7 works 0-40. Stream 9, which fetches parameters ahead, waits 10-30 for an all_gather:
    # communication that compute hides.
    events = [
        Event(start=0, duration=50, kind="step"),
        Event(start=0, duration=40, kind="forward", lane="device:7"),
        Event(start=10, duration=20, kind="wait", group="dp:0", correlation=1, lane="device:9"),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    assert spent(run, 0) == {"compute": 40, "idle": 10}
    (dp,) = run.accounting().overlap.to_pylist()
    assert (dp["total_ns"], dp["exposed_ns"]) == (20, 0)


def test_an_optimizer_inside_a_backward_is_compute(tmp_path: Path) -> None:
    # A hook runs the optimizer at 20-30, inside the backward 0-40, and another one runs 35-50.
    # Compute comes first, so it has 0-40, and the optimizer what is left: 40-50.
    events = [
        Event(start=0, duration=60, kind="step"),
        Event(start=0, duration=40, kind="backward", stage=0, microbatch=0),
        Event(start=20, duration=10, kind="optimizer"),
        Event(start=35, duration=15, kind="optimizer"),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    assert spent(run, 0) == {"compute": 40, "optimizer": 10, "idle": 10}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(any_events())
def test_closes_to_the_nanosecond(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    run = open_run(write_run(tmp_path_factory.mktemp("closes"), {0: events}))
    accounting = run.accounting()
    durations = accounting.table["duration"].to_pylist()
    assert accounting.table["category"].to_pylist() == list(CATEGORIES)
    assert min(durations) >= 0
    assert sum(durations) == accounting.windows["duration"][0].as_py()
    for row in accounting.overlap.to_pylist():
        assert 0 <= row["exposed_ns"] <= row["total_ns"]


def at_all(events: list[Event], *kinds: str, lane: str) -> bool:
    return any(e.kind in kinds and e.lane.startswith(lane) for e in events)


def nanosecond_by_nanosecond(events: list[Event]) -> dict[str, int]:
    """The definition, word for word: each category has the instants that none before it has."""
    window = set(range(events[0].duration))

    def at(
        *kinds: str, dim: str | None = None, lane: str = "", of: list[Event] = events
    ) -> set[int]:
        chosen = [e for e in of if e.kind in kinds and e.lane.startswith(lane)]
        return window & {
            instant
            for e in chosen
            if dim is None or category(e) == dim
            for instant in range(e.start, e.start + e.duration)
        }

    def category(event: Event) -> str:
        dim = (event.group or "").partition(":")[0]
        return f"comm:{dim}" if dim in ("tp", "pp", "dp") else "comm:other"

    issued = (*COMMUNICATION_KINDS, "wait")
    working = (*COMPUTE_KINDS, "optimizer")
    if at_all(events, *working, lane="device:"):
        shown = {e.correlation for e in events if e.kind in issued and e.lane.startswith("device:")}
        host_only = {
            id(e)
            for e in events
            if e.lane.startswith("host:") and (e.correlation is None or e.correlation not in shown)
        }
        seen = [e for e in events if e.lane.startswith("device:") or id(e) in host_only]

        def done(*kinds: str) -> set[int]:
            return set().union(
                *(at(*kinds, lane=stream) - at("wait", lane=stream) for stream in STREAMS)
            )

        claims = {
            "compute": done(*COMPUTE_KINDS),
            "optimizer": done("optimizer"),
            **{name: at(*issued, dim=name, of=seen) for name in COMMUNICATION},
            "data": at("data"),
            "host": at(*working, "user", "module", lane="host:"),
            "idle": window,
        }
    else:
        blocked = at(*issued, lane="host:")
        claims = {
            "compute": at(*COMPUTE_KINDS) - blocked,
            "optimizer": at("optimizer") - blocked,
            **{name: at(*issued, dim=name) for name in COMMUNICATION},
            "data": at("data"),
            "host": set(),
            "idle": window,
        }
    taken: set[int] = set()
    found = {}
    for name in CATEGORIES:
        found[name] = len(claims[name] - taken)
        taken |= claims[name]
    return {name: length for name, length in found.items() if length}


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(any_events())
def test_every_category_is_what_its_definition_says(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    # A first event at 0 or later keeps the window where the definition looks for it.
    later = [e for e in events if e.start >= 0]
    run = open_run(write_run(tmp_path_factory.mktemp("defined"), {0: later}))
    assert spent(run, 0) == nanosecond_by_nanosecond(later)


def test_a_run_without_steps_has_empty_tables(tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=1, kind="forward")]}
    run = open_run(write_run(tmp_path / "run", events, facts={0: RankFacts(coordinates={})}))
    assert run.steps == ()
    assert run.accounting().table.num_rows == 0
