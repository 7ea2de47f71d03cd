"""Actions that a device recorded as well as the host: counted once, as the device had them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dashboard import Run, open_run
from dashboard.analysis.pipeline.actions import pipeline_actions, pipelines, places
from dashboard.analysis.whole_run.integrity import violations
from tests.support.pipeline_toy import GROUP, SCHEDULE, step_events
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import COMPUTE_KINDS

_LAUNCH = 2
"""How long the host takes to launch an action, right when it begins."""


def _on_devices(path: Path, *, lost: int = 0) -> Run:
    """The paper pipeline on devices: the host launches each action and goes on. Of rank 0's
    actions the device's records of the last `lost` are missing.
    """
    events = step_events()
    for rank, rows in events.items():
        device = [replace(row, lane="device:7") for row in rows if row.kind in COMPUTE_KINDS]
        rows[:] = [
            replace(row, duration=_LAUNCH) if row.kind in COMPUTE_KINDS else row for row in rows
        ]
        rows += device[: len(device) - lost] if rank == 0 else device
    facts = {
        rank: RankFacts(
            coordinates={"pp": rank}, stages=(rank,),
            groups={GROUP: {"dim": "pp", "ranks": [0, 1, 2]}},
        )
        for rank in events
    }  # fmt: skip
    return open_run(write_run(path / "run", events, facts=facts, schedule=SCHEDULE, scale=1000))


def test_bubbles_and_microbatches_are_those_of_the_device(tmp_path: Path) -> None:
    run = _on_devices(tmp_path)
    # As in test_bubbles.py: the window is 0-124, every rank works 60.
    bubbles = run.bubbles()
    busy = [(row["window_ns"], row["busy_ns"]) for row in bubbles.ranks.to_pylist()]
    assert busy == [(124_000, 60_000)] * 3
    assert bubbles.steps["plan_bound_over_ideal"].to_pylist() == [1.0]
    assert run.memory().ranks["peak_in_flight"].to_pylist() == [2, 2, 1]
    assert [v for v in violations(run) if v.check == "plan"] == []


def test_a_step_that_the_device_recorded_in_part_is_the_hosts(tmp_path: Path) -> None:
    (actions,) = pipeline_actions(_on_devices(tmp_path, lost=1)).values()
    lengths = {rank: {a.duration for a in actions if a.rank == rank} for rank in range(3)}
    assert lengths == {0: {2_000}, 1: {10_000, 20_000}, 2: {10_000, 20_000}}


def test_a_pipeline_is_in_its_own_order_not_in_that_of_the_ranks(tmp_path: Path) -> None:
    # Four ranks, two pipelines; ranks 2 and 3 hold the first stage. Rank 3's file is missing.
    place = {0: (1, 0), 1: (1, 1), 2: (0, 0)}
    facts = {
        rank: RankFacts(coordinates={"pp": pp, "dp": dp}, stages=(pp,))
        for rank, (pp, dp) in place.items()
    }
    steps = {rank: [Event(start=0, duration=10, kind="step")] for rank in place}
    run = open_run(write_run(tmp_path / "run", steps, facts=facts, world_size=4))
    assert pipelines(run) == {"dp=0": (2, 0), "dp=1": (1,)}
    assert places(run) == {2: 0, 0: 1, 1: 1}
