"""Scenarios on paper: what the example pipeline and a plain loop take if something is otherwise."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.replay.scenarios import (
    Scenario,
    balanced_stages,
    faster_communication,
    moved_layers,
    no_stragglers,
    stage_takes,
    together,
)
from dashboard.analysis.replay.whatif import what_if
from dashboard.run import Run
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.errors import UsageError

SAMPLE = Path("sample_traces/pp4-1f1b-slow-stage")


def _predicted(run: Run, *scenarios: Scenario) -> float:
    """The predicted step time in the paper's unit."""
    return what_if(run, [together(scenarios)]).predictions[0].step_ns / 1000


@pytest.fixture
def toy(tmp_path: Path) -> Run:
    return open_run(write_pipeline(tmp_path / "run"))


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (balanced_stages(), 130),  # they are balanced
        (stage_takes(2, 0.5), 105),  # see test_replay.py
        # Stage 1: F 15, B 30; stage 2: F 5, B 10. Rank 1: F0 11-26, F1 26-41; rank 2: F0 27-32,
        # B0 32-42, F1 42-47, B1 47-57; rank 1: B0 43-73, B1 73-103; rank 0: B1 104-124, and 6.
        (moved_layers(2, 1, 0.5), 130),
        (faster_communication("pp", inf), 128),  # see test_replay.py
        (faster_communication("pp", 2), 129),  # rank 2 ends 1 earlier, then its 48
        (no_stragglers(), 130),
    ],
    ids=lambda value: value.name if isinstance(value, Scenario) else None,
)
def test_the_paper_pipeline(toy: Run, scenario: Scenario, expected: float) -> None:
    assert _predicted(toy, scenario) == expected


def test_scenarios_add_up(toy: Run) -> None:
    """Stage 2 in half the time and free messages: 105 less the four messages, but rank 2 ends at
    20 + 5 + 10 + 5 + 10 + 48 = 98, and rank 1 at 35-55-75 + 27 = 102, rank 0 at 75 + 20 + 6 = 101.
    """
    both = (stage_takes(2, 0.5), faster_communication("pp", inf))
    assert _predicted(toy, *both) == 102


def test_unknown_stages_and_dimensions_are_named(toy: Run) -> None:
    with pytest.raises(UsageError, match="no work of stage 7; it has: 0, 1, 2"):
        _predicted(toy, stage_takes(7, 0.5))
    with pytest.raises(UsageError, match=r"dimension 'tp' was recorded; there is: pp"):
        _predicted(toy, faster_communication("tp", 2))


def _loop(path: Path, forwards: dict[int, list[int]], *, reduces: bool) -> Run:
    """Ranks that do a forward of that length in each step, all_reduce (1), and rest for 2."""
    group = "dp:0-1"
    events: dict[int, list[Event]] = {rank: [] for rank in forwards}
    begin = 0
    for step in range(len(forwards[0])):
        last = max(lengths[step] for lengths in forwards.values())
        end = begin + last + (1 if reduces else 0) + 2
        for rank, lengths in forwards.items():
            common = {"step": step, "kind": "forward", "name": "F", "stage": 0, "microbatch": 0}
            events[rank].append(Event(start=begin, duration=lengths[step], **common))
            if reduces:
                call = {"kind": "collective", "name": "all_reduce", "group": group, "seq": step}
                since = begin + lengths[step]
                events[rank].append(
                    Event(start=since, duration=end - 2 - since, step=step, bytes=4, **call)
                )
            events[rank].append(
                Event(start=begin, duration=end - begin, step=step, kind="step", name="step")
            )
        begin = end
    groups = {group: {"dim": "dp", "ranks": [0, 1]}} if reduces else {}
    facts = {
        rank: RankFacts(coordinates={"dp": rank}, stages=(0,), groups=groups) for rank in events
    }
    return open_run(write_run(path, events, facts=facts, scale=1000))


def test_an_occasional_slow_step_becomes_a_usual_one(tmp_path: Path) -> None:
    run = _loop(tmp_path / "run", {0: [10, 10, 16, 10]}, reduces=False)
    # Steps 1 to 3 take 12, 18, 12: 14 on average, and 12 without the straggler.
    found = what_if(run, [no_stragglers()])
    assert found.measured_ns == 14_000
    assert found.predictions[0].step_ns == 12_000
    assert found.predictions[0].saved_ns == 2_000


def test_a_slow_rank_becomes_as_fast_as_its_peer(tmp_path: Path) -> None:
    run = _loop(tmp_path / "run", {0: [10] * 4, 1: [15] * 4}, reduces=True)
    # Steps take 15 + 1 + 2; with both ranks at 10: 13.
    assert what_if(run).measured_ns == 18_000
    assert _predicted(run, no_stragglers()) == 13


def test_noise_is_no_straggler(tmp_path: Path) -> None:
    run = _loop(
        tmp_path / "run", {0: [1000, 1020, 980, 1000], 1: [1000, 1000, 1030, 990]}, reduces=True
    )
    assert _predicted(run, no_stragglers()) * 1000 == what_if(run).measured_ns


def test_a_recorded_run() -> None:
    """The sample's stage 2 sleeps 15 ms forward where the others sleep 10: about 94 ms of work a
    step more than theirs on eleven slots, of which balancing gives back the most.
    """
    found = what_if(open_run(SAMPLE))
    assert abs(found.replay_error) < 1e-9
    best = found.predictions[0]
    assert best.scenario == "balanced stages"
    assert 0.1 < best.saved_ns / found.measured_ns < 0.2
    assert best.low_ns is not None
    assert 0 < best.low_ns <= best.saved_ns
