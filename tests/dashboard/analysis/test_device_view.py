"""Graph, critical path and replay of work that devices did, on paper: as the devices did it.

The paper pipeline again, three steps of it: the host launches everything of a step at its begin,
one action after the other, and runs ahead; the streams do and wait as the example has it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dashboard import Run, open_run
from dashboard.analysis.device_view import as_devices_ran
from dashboard.analysis.replay.scenarios import stage_takes
from dashboard.analysis.replay.step_model import step_model
from dashboard.analysis.replay.whatif import what_if
from tests.support.pipeline_toy import GROUP, SCHEDULE, STEP_END, step_events, write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import COMPUTE_KINDS

LAUNCH = 1


def launched(rows: list[Event], at: int) -> list[Event]:
    """The host launches work of a step, which the device did as `rows` say, from `at` on."""
    found: list[Event] = []
    for row in sorted(rows, key=lambda row: row.start):
        if row.kind == "step":
            continue
        if row.kind in (*COMPUTE_KINDS, "optimizer"):
            found += [replace(row, start=at, duration=LAUNCH), replace(row, lane="device:7")]
            at += LAUNCH
        elif row.kind == "wait":
            found += [replace(row, start=at, duration=0), replace(row, lane="device:7")]
            whole = {"kind": "recv", "lane": "device:7 communication"}
            found.append(replace(row, **whole))
        elif row.kind == "send":
            found += [
                replace(row, start=at),
                replace(row, lane="device:7 communication"),
            ]
        else:
            found.append(replace(row, start=at))
    return found


def on_devices(path: Path, steps: int = 3) -> Run:
    events: dict[int, list[Event]] = {0: [], 1: [], 2: []}
    for step in range(steps):
        for rank, rows in step_events(step, at=step * STEP_END).items():
            # The host is done with a step long before the device: its window is 20 later on.
            events[rank] += launched(rows, at=20 * step)
            events[rank].append(Event(start=20 * step, duration=20, kind="step", step=step))
    groups = {GROUP: {"dim": "pp", "ranks": [0, 1, 2]}}
    facts = {
        rank: RankFacts(coordinates={"pp": rank}, stages=(rank,), groups=groups) for rank in events
    }
    return open_run(write_run(path, events, facts=facts, schedule=SCHEDULE, scale=1000))


def test_other_plans_are_measured_against_the_devices_steps(tmp_path: Path) -> None:
    """The host's windows are 20, the device's steps 130 beyond the first."""
    assert step_model(on_devices(tmp_path / "run")).step_ns.tolist() == [130_000, 130_000]


def test_steps_end_with_the_devices_last_work(tmp_path: Path) -> None:
    view = as_devices_ran(on_devices(tmp_path / "run"))
    # Rank 0's optimizer ends at 126, 256 and 386; the host's windows are 0-20, 20-40 and 40-60.
    windows = view.events(ranks=[0], kinds=("step",), columns=("start", "duration")).to_pylist()
    assert [(row["start"] // 1000, row["duration"] // 1000) for row in windows] == [
        (0, 126), (126, 130), (256, 130),
    ]  # fmt: skip
    assert as_devices_ran(view) is view


def test_the_path_is_that_of_the_devices(tmp_path: Path) -> None:
    found = on_devices(tmp_path / "run").critical_path()
    told = open_run(write_pipeline(tmp_path / "hosts", steps=3)).critical_path()

    def path(rows: list[dict[str, int]]) -> list[tuple[int, ...]]:
        """Of the second step, what is not idle or the optimizer."""
        return [
            (row["rank"], row["start"], row["duration"])
            for row in rows
            if row["step"] == 1 and row["stage"] is not None
        ]

    assert path(found.segments.to_pylist()) == path(told.segments.to_pylist())
    assert found.steps["length_ns"].to_pylist() == [126_000, 130_000, 130_000]
    assert found.notes == ()


def test_a_replay_follows_the_devices(tmp_path: Path) -> None:
    found = what_if(on_devices(tmp_path / "run"), [stage_takes(2, 0.5)])
    assert (found.measured_ns, found.replay_error) == (130_000, 0)
    # Stage 2 in half the time saves 25 of a step on paper.
    assert found.predictions[0].saved_ns == pytest.approx(25_000)


def test_what_the_host_does_while_the_device_has_nothing_to_do_counts(tmp_path: Path) -> None:
    # The host launches a forward 0-10 and a backward 20-30; the device does them 5-15 and 25-40.
    events = [
        Event(start=0, duration=50, kind="step"),
        Event(start=0, duration=10, kind="forward", name="F"),
        Event(start=20, duration=10, kind="backward", name="B"),
        Event(start=5, duration=10, kind="forward", name="F", lane="device:7"),
        Event(start=25, duration=15, kind="backward", name="B", lane="device:7"),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    path = [
        (row["start"], row["duration"], row["category"], row["name"])
        for row in run.critical_path().segments.to_pylist()
    ]
    assert path == [
        (0, 5, "host", "F"),
        (5, 10, "compute", "F"),
        (15, 5, "idle", "no span"),
        (20, 5, "host", "B"),
        (25, 15, "compute", "B"),
    ]


def test_another_stream_that_waits_holds_up_nothing(tmp_path: Path) -> None:
    common = {"group": "dp:0-1", "seq": 0, "name": "all_gather", "correlation": 1}
    events = [
        Event(start=0, duration=10, kind="step"),
        Event(start=0, duration=1, kind="collective", **common),
        Event(start=0, duration=1, kind="forward", name="F"),
        Event(start=1, duration=30, kind="forward", name="F", lane="device:7"),
        Event(start=2, duration=20, kind="wait", lane="device:9", **common),
        Event(start=2, duration=20, kind="collective", lane="device:9 communication", **common),
    ]
    groups = {"dp:0-1": {"dim": "dp", "ranks": [0, 1]}}
    facts = {rank: RankFacts(coordinates={"dp": rank}, groups=groups) for rank in (0, 1)}
    run = open_run(write_run(tmp_path / "run", {0: events, 1: events}, facts=facts))
    found = run.critical_path()
    assert found.steps["length_ns"].to_pylist() == [31]
    assert {row["category"] for row in found.summary.to_pylist()} == {"compute", "host"}


def test_a_barrier_of_the_host_holds_up_no_device_that_has_work(tmp_path: Path) -> None:
    # The host calls a barrier at 2 and is in it until 50; the device works 5-40. Only 40-50 holds
    # up the rank. The other rank comes at 45, so that the path is its waiting since then: 45-50.
    def events(arrival: int) -> list[Event]:
        barrier = {"group": "dp:0-1", "seq": 0, "name": "barrier", "correlation": 1}
        return [
            Event(start=0, duration=60, kind="step"),
            Event(start=0, duration=2, kind="forward", name="F"),
            Event(start=arrival, duration=50 - arrival, kind="collective", **barrier),
            Event(start=5, duration=35, kind="forward", name="F", lane="device:7"),
            Event(start=52, duration=8, kind="optimizer", name="O", lane="device:7"),
        ]

    groups = {"dp:0-1": {"dim": "dp", "ranks": [0, 1]}}
    facts = {rank: RankFacts(coordinates={"dp": rank}, groups=groups) for rank in (0, 1)}
    run = open_run(write_run(tmp_path / "run", {0: events(2), 1: events(45)}, facts=facts))
    path = [
        (row["rank"], row["start"], row["duration"], row["category"])
        for row in run.critical_path().segments.to_pylist()
    ]
    assert path == [
        (1, 0, 2, "host"),
        (1, 2, 3, "idle"),
        (1, 5, 35, "compute"),
        (1, 40, 5, "idle"),
        (0, 45, 5, "comm:dp"),
        (0, 50, 2, "idle"),
        (0, 52, 8, "optimizer"),
    ]


def test_a_run_without_devices_is_itself(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run"))
    assert as_devices_ran(run) is run
