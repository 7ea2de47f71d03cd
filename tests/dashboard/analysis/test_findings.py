"""Findings: the slow stage is named with its numbers, and quiet runs stay quiet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.findings import Finding, findings
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import RUN_FILE


def test_slow_stage_on_paper(tmp_path: Path) -> None:
    # Stages work 30, 45, 30 of a step of 100: stage 1 works 15, that is 50 %, longer.
    events = {
        rank: [
            Event(start=0, duration=100, kind="step"),
            Event(start=0, duration=work // 3, kind="forward", stage=rank, microbatch=0),
            Event(start=50, duration=work - work // 3, kind="backward", stage=rank, microbatch=0),
        ]
        for rank, work in enumerate((30, 45, 30))
    }
    facts = {rank: RankFacts(coordinates={"pp": rank}, stages=(rank,)) for rank in events}
    run = open_run(write_run(tmp_path / "run", events, facts=facts, scale=1_000_000))
    slow = next(finding for finding in findings(run) if finding.text.startswith("stage"))
    assert slow.text == (
        "stage 1 works 50 % longer than the median of the other stages: "
        "45.0 ms against 30.0 ms per step"
    )
    assert slow.ms_per_step == pytest.approx(15.0)


def test_exposed_communication_on_paper(tmp_path: Path) -> None:
    events = [
        Event(start=0, duration=100, kind="step"),
        Event(start=20, duration=30, kind="collective", group="tp:0", seq=0, correlation=1),
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}, scale=1_000_000))
    assert [finding.text for finding in findings(run)] == [
        "30.0 ms of tp communication per step is not hidden by compute"
    ]


def test_the_schedules_own_bubble_comes_last(tmp_path: Path) -> None:
    found = findings(open_run(write_pipeline(tmp_path / "run", steps=2)))
    # Theory: (p-1)/m = 1 over ideal; every rank works 60 us: 0.06 ms.
    assert found[-1].text.startswith("Schedule1F1B with 3 pipeline ranks and 2 microbatches")
    assert found[-1].ms_per_step == pytest.approx(0.06)


def test_without_theory_the_plan_bound_says_what_the_schedule_costs(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "run", steps=2)
    meta = json.loads((path / RUN_FILE).read_text())
    (path / RUN_FILE).write_text(json.dumps(meta | {"schedule": None}))
    # The replay ends at 120, of which every rank works 60 (tests/support/pipeline_toy.py).
    assert findings(open_run(path))[-1] == Finding(
        text="the pipeline is idle 50 % of the window even if nothing waited for "
        "communication, 0.1 ms per step: more microbatches or virtual stages shrink that",
        ms_per_step=pytest.approx(0.06),
    )


def test_nothing_to_say(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=9, kind="step")]}))
    assert findings(run) == []
