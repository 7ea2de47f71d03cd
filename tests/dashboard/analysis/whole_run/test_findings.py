"""Findings: each with what mending it saves by replay, on paper; quiet runs stay quiet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.replay.scenarios import balanced_stages
from dashboard.analysis.replay.whatif import what_if
from dashboard.analysis.whole_run.findings import MOST, findings
from tests.support import data_parallel_toy
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.schema import RUN_FILE

SAMPLES = Path("sample_traces")


def _pair(path: Path, works: tuple[int, int], *, call: int = 0, steps: int = 3) -> Path:
    """Two stages on two ranks that work, meet in an all_reduce of `call` ms, and end."""
    events: dict[int, list[Event]] = {0: [], 1: []}
    length = max(works) + call
    for step in range(steps):
        at = step * length
        for rank, work in enumerate(works):
            common = {"step": step}
            events[rank] += [
                Event(start=at, duration=length, kind="step", **common),
                Event(start=at, duration=work, kind="forward", stage=rank, microbatch=0, **common),
                Event(
                    start=at + work, duration=length - work, kind="collective", name="all_reduce",
                    group="pp:0-1", seq=step, bytes=4, **common,
                ),
            ]  # fmt: skip
    groups = {"pp:0-1": {"dim": "pp", "ranks": [0, 1]}}
    facts = {
        rank: RankFacts(coordinates={"pp": rank}, stages=(rank,), groups=groups) for rank in events
    }
    return write_run(path, events, facts=facts, scale=1_000_000)


def test_a_slow_stage_on_paper(tmp_path: Path) -> None:
    """Stages work 30 and 50 of a step of 51. Balanced, both work 40, and the step takes 41."""
    found = findings(open_run(_pair(tmp_path / "run", (30, 50), call=1)))
    assert found[0].text == (
        "stage 1 computes 67 % longer than the median of the other stages; "
        "balancing the stages is worth 10.0 of 51.0 ms per step"
    )
    assert (found[0].ms_per_step, found[0].low_ms, found[0].high_ms) == (10.0, 10.0, 10.0)
    assert found[0].confidence == "high"
    assert found[0].evidence[0] == (
        "stage 1 computes 50.0 ms per step, the median of the other stages 30.0 ms"
    )


def test_what_a_slow_machine_would_be_worth_stands_beside_balancing(tmp_path: Path) -> None:
    """Stages work 30 and 50: balanced, 10 are saved; were stage 1 as fast as the other one, 20."""
    found = findings(open_run(_pair(tmp_path / "run", (30, 50), call=1, steps=8)))
    assert found[0].ms_per_step == 10.0
    assert found[0].evidence[1] == (
        "if it is the machine of rank 1 that is slow, as fast as the others it would save 20.0 ms"
    )


def test_where_waiting_counts_as_work_nobody_says_that_no_rank_stands_out(tmp_path: Path) -> None:
    """What C++ issues within a layer (compiled tensor parallelism) is waited for somewhere in the
    backward: rank 0 waits for rank 1, and its work is as long.
    """
    steps = [((10, 10), (30, 10)), ((30, 10), (10, 10))] * 3
    run = open_run(data_parallel_toy.write(tmp_path / "run", steps, dim="tp"))
    (found,) = (f for f in findings(run) if f.text.startswith("actions vary"))
    assert found.text.startswith("actions vary: if none took over 5 % longer than usual, ")
    assert found.confidence == "medium"
    assert any("waiting for them counts as work" in said for said in found.evidence)
    assert any("waiting for them counts as work" in note for note in what_if(run).notes)


def test_the_slow_rank_of_a_data_parallel_run_is_named_and_where_it_is_slow(tmp_path: Path) -> None:
    """Rank 1 takes 30 for each forward, and rank 0 waits for it in its backward: 30 + 10 + 4 + 2
    per step. It works 42, rank 0 works 22. As fast, its steps take 26; once it is 0.95 late still,
    since its work is scaled as a whole, optimizer included: (5 × 20 − 0.95) / 5 saved.
    """
    run = open_run(data_parallel_toy.write(tmp_path / "run", [((10, 10), (30, 10))] * 6))
    found = findings(run)[0]
    assert found.text == (
        "rank 1 works 91 % longer than the ranks that do the same (in forward): without that, "
        "19.8 of 46.0 ms per step would be saved"
    )
    assert found.confidence == "medium"


def test_one_slow_rank_of_two_that_hold_a_stage_is_no_slow_stage(tmp_path: Path) -> None:
    """Two replicas of two stages; all work 30, but for stage 1 of the second one, which works 90.
    In the mean stage 1 works 60; balancing stages is no mend for a slow machine.
    """
    works = {0: 30, 1: 30, 2: 30, 3: 90}
    events: dict[int, list[Event]] = {rank: [] for rank in works}
    for step in range(6):
        at = 91 * step
        for rank, work in works.items():
            common = {"step": step}
            events[rank] += [
                Event(start=at, duration=91, kind="step", **common),
                Event(
                    start=at, duration=work, kind="forward", stage=rank % 2, microbatch=0, **common
                ),
                Event(
                    start=at + work, duration=91 - work, kind="collective", name="all_reduce",
                    group="dp:all", seq=step, bytes=4, **common,
                ),
            ]  # fmt: skip
    groups = {"dp:all": {"dim": "dp", "ranks": list(works)}}
    facts = {
        rank: RankFacts(
            coordinates={"dp": rank // 2, "pp": rank % 2}, stages=(rank % 2,), groups=groups
        )
        for rank in works
    }
    found = findings(open_run(write_run(tmp_path / "run", events, facts=facts, scale=1_000_000)))
    assert found[0].text.startswith("rank 3 works 200 % longer than the ranks that do the same")
    assert not any("balancing" in finding.text for finding in found)


def test_communication_that_holds_up_the_step_on_paper(tmp_path: Path) -> None:
    """Both work 30 and reduce for 10: free, that saves 10 of 40, and 5 if it is twice as fast."""
    found = findings(open_run(_pair(tmp_path / "run", (30, 30), call=10)))
    assert found[0].text == (
        "communication of pp holds up the step: if it took no time, 10.0 of 40.0 ms per step would "
        "be saved"
    )
    assert found[0].evidence[0] == "twice as fast, it would save 5.0 ms"
    assert found[0].ms_per_step == 10.0


def test_actions_that_vary_on_every_rank_on_paper(tmp_path: Path) -> None:
    """Of four actions of 30 one takes longer, by what no rank and step stands out with; the ranks
    meet after 120 and the longer excess. Without excess of over 5 % of an action (1.5) steps 6 and
    7 keep an excess of 1: of 10 + 9 + 8 + 12 + 7 + 12 + 8 + 11 in eight steps, 75 are saved.
    """
    excess = ((0, 4, 9, 2, 12, 6, 1, 8, 11), (0, 10, 3, 8, 2, 7, 12, 1, 5))
    events: dict[int, list[Event]] = {0: [], 1: []}
    at = 0
    for step, both in enumerate(zip(*excess, strict=True)):
        end = at + 120 + max(both) + 1
        for rank, more in enumerate(both):
            now, mine = at, {"step": step}
            for number in range(4):
                length = 30 + more * (number == step % 4)
                events[rank].append(
                    Event(
                        start=now, duration=length, kind="forward", stage=0, microbatch=number,
                        **mine,
                    )
                )  # fmt: skip
                now += length
            events[rank] += [
                Event(start=at, duration=end - at, kind="step", **mine),
                Event(
                    start=now, duration=end - now, kind="collective", name="all_reduce",
                    group="dp:0-1", seq=step, bytes=4, **mine,
                ),
            ]  # fmt: skip
        at = end
    groups = {"dp:0-1": {"dim": "dp", "ranks": [0, 1]}}
    facts = {
        rank: RankFacts(coordinates={"dp": rank}, stages=(0,), groups=groups) for rank in events
    }
    run = open_run(write_run(tmp_path / "run", events, facts=facts, scale=1_000_000))
    assert run.stragglers().found == ()
    first = findings(run)[0]
    assert first.text == (
        "actions vary, and no rank stands out: if none took over 5 % longer than usual, 9.4 of "
        "130.6 ms per step would be saved"
    )
    assert first.ms_per_step == pytest.approx(75 / 8)
    # Rank 0 takes 53 - 1 longer in these steps, rank 1 48 - 1; the graph has the first step, too.
    assert first.evidence[0] == "beyond their usual time they take 5.5 ms per step and rank"


def test_the_schedules_own_bubble_comes_last(tmp_path: Path) -> None:
    found = findings(open_run(write_pipeline(tmp_path / "run", steps=2)))
    # Theory: (p-1)/m = 1 over ideal; every rank works 60 us: 0.06 ms.
    assert found[-1].text.startswith("Schedule1F1B with 3 pipeline ranks and 2 microbatches")
    assert found[-1].ms_per_step == pytest.approx(0.06)
    assert found[-1].confidence == "low"


def test_without_theory_the_plan_bound_says_what_the_schedule_costs(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "run", steps=2)
    meta = json.loads((path / RUN_FILE).read_text())
    (path / RUN_FILE).write_text(json.dumps(meta | {"schedule": None}))
    # The replay ends at 120, of which every rank works 60 (tests/support/pipeline_toy.py).
    last = findings(open_run(path))[-1]
    assert last.text == (
        "the pipeline is idle 50 % of the window even if nothing waited for communication, 0.1 of "
        "0.1 ms per step: more microbatches or virtual stages shrink that"
    )
    assert last.ms_per_step == pytest.approx(0.06)


def test_nothing_to_say(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=9, kind="step")]}))
    assert findings(run) == []
    no_step = open_run(write_run(tmp_path / "none", {0: [Event(start=0, duration=9, kind="user")]}))
    assert findings(no_step) == []


def test_a_recorded_run_with_a_slow_stage() -> None:
    run = open_run(SAMPLES / "pp4-1f1b-slow-stage")
    first, *others = findings(run)
    assert first.text.startswith("stage 2 computes 4")
    assert first.ms_per_step * 1e6 == what_if(run, [balanced_stages()]).predictions[0].saved_ns
    assert first.low_ms is not None
    assert 0 < first.low_ms < first.ms_per_step
    assert len(others) < MOST


@pytest.mark.parametrize("sample", ["pp4-1f1b-balanced", "pp4-gpipe"])
def test_balanced_runs_name_no_stage(sample: str) -> None:
    assert not [f for f in findings(open_run(SAMPLES / sample)) if f.text.startswith("stage")]
