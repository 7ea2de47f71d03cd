"""The step model: the example pipeline under other plans by hand, theory, and recorded runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.pipeline.plans import plan
from dashboard.analysis.pipeline.theory import theory_of
from dashboard.analysis.replay.other_plans import has_plans, other_plans, plan_like, predict_plan
from dashboard.analysis.replay.outside_of_plan import Outside
from dashboard.analysis.replay.scenarios import stage_takes
from dashboard.analysis.replay.simulation import parts_of_stages, simulate
from dashboard.analysis.replay.step_model import StepModel, step_model
from tests.support.pipeline_toy import STEP_END, step_events, write_pipeline, write_steps
from tests.support.toy import Event, write_run
from tracer.errors import UsageError
from tracer.run_files import SchedulePlan

SAMPLES = sorted(path.parent for path in Path("sample_traces").glob("*/run.json"))


@pytest.fixture
def toy(tmp_path: Path) -> StepModel:
    """F 10, B 20, a message 1; after its last action a rank has 6, 27 and 48 left in the step."""
    return step_model(open_run(write_pipeline(tmp_path / "run", steps=3)))


def test_the_model_of_the_paper_pipeline(toy: StepModel) -> None:
    assert set(toy.turnaround / 1000) == {0}
    assert set(toy.hand_over / 1000) == {1}
    assert [set(found.whole / 1000) for found in toy.outside] == [{6}, {27}, {48}]
    assert set(toy.step_ns / 1000) == {130}
    assert set(toy.durations[1, "backward"] / 1000) == {20}


def test_the_model_is_of_the_steps_whose_times_are_measured(tmp_path: Path) -> None:
    """Six steps with a pause of 1000 between the third and the fourth, in which all takes twice as
    long: it leads in, as the first of the run does, and of the pause nothing is known.
    """
    pause = 3 * STEP_END + 1000
    steps = [step_events(step, at=step * STEP_END) for step in range(3)]
    slow = step_events(3)
    steps.append(
        {
            rank: [
                replace(event, start=pause + 2 * event.start, duration=2 * event.duration)
                for event in events
            ]
            for rank, events in slow.items()
        }
    )
    after = pause + 2 * STEP_END
    steps += [step_events(4 + n, at=after + n * STEP_END) for n in range(2)]
    model = step_model(open_run(write_steps(tmp_path / "run", steps)))
    assert model.steps == (1, 2, 4, 5)
    assert (model.step_ns / 1000).tolist() == [130] * 4
    assert set(model.durations[1, "backward"] / 1000) == {20}
    assert set(model.hand_over / 1000) == {1}
    # From 1 to 2 and from 4 to 5; between 2 and 4 there is a whole step.
    assert [(found.whole / 1000).tolist() for found in model.outside] == [
        [6] * 2,
        [27] * 2,
        [48] * 2,
    ]


@pytest.mark.parametrize(
    ("name", "m", "expected"),
    [
        ("Schedule1F1B", 2, 130),  # as recorded
        # rank 2: F0 22-32 B0 32-52 F1 52-62 B1 62-82 F2 84-94 B2 94-114 F3 116-126 B3 126-146
        # rank 1: F0 11-21 F1 21-31 B0 53-73 F2 73-83 B1 83-103 F3 105-115 B2 115-135 B3 147-167
        # rank 0: F0-F2 0-30 B0 74-94 F3 94-104 B1 104-124 B2 136-156 B3 168-188, and 6
        ("Schedule1F1B", 4, 194),
        # rank 2: F0 22-32 F1 32-42 B0 42-62 B1 62-82, then as in 1F1B: rank 0 is done at 124
        ("ScheduleGPipe", 2, 130),
    ],
)
def test_other_plans_on_paper(toy: StepModel, name: str, m: int, expected: int) -> None:
    found = simulate(toy, plan(name, p=3, m=m), steps=2, seed=0)
    assert (found.step_ns / 1000).tolist() == [expected] * 2


def test_the_bubble_of_the_simulated_step_on_paper(toy: StepModel) -> None:
    """Three ranks work 120 each of a window of 188."""
    found = simulate(toy, plan("Schedule1F1B", p=3, m=4), steps=1, seed=0)
    assert found.bubble_fraction_of_window == pytest.approx(1 - 120 / 188)


def test_layers_are_spread_over_other_stages() -> None:
    assert parts_of_stages(2, 4) == [[(0, 0.5)], [(0, 0.5)], [(1, 0.5)], [(1, 0.5)]]
    assert parts_of_stages(2, 1) == [[(0, 1.0), (1, 1.0)]]
    (first, second, third) = parts_of_stages(2, 3)
    assert first == [(0, pytest.approx(2 / 3))]
    assert second == [(0, pytest.approx(1 / 3)), (1, pytest.approx(1 / 3))]
    assert third == [(1, pytest.approx(2 / 3))]


def _ideal(stages: int) -> StepModel:
    """Equal stages, B twice as long as F, and nothing between actions."""
    durations = {(s, "forward"): np.array([10_000.0]) for s in range(stages)}
    durations |= {(s, "backward"): np.array([20_000.0]) for s in range(stages)}
    none = np.array([0.0])
    idle = Outside(whole=none, reduction=none, loading=none)
    return StepModel(
        durations=durations, turnaround=none, hand_over=none, outside=(idle,),
        stages=stages,
        p=stages, m=1, v=1, schedule="ScheduleGPipe", step_ns=none, steps=(), input_share=0.5,
        is_share_assumed=True,
    )  # fmt: skip


def test_backwards_in_two_parts_and_whole_ones() -> None:
    """B is 20, of which the input has half, but on the first stage, which has no input to mind.

    rank 0: F0 0-10, F1 10-20, W0 and W1 all of B; rank 1 splits 10 and 10.
    """
    made = simulate(
        _ideal(2), plan("ScheduleInterleavedZeroBubble", p=2, m=2), steps=1, seed=0
    ).last
    took = {(a.rank, a.kind): a.duration / 1000 for a in made}
    assert (took[0, "backward_input"], took[0, "backward_weight"]) == (0, 20)
    assert (took[1, "backward_input"], took[1, "backward_weight"]) == (10, 10)
    halves = {(s, "backward_input"): np.array([8_000.0]) for s in (0, 1)}
    halves |= {(s, "backward_weight"): np.array([12_000.0]) for s in (0, 1)}
    forwards = {(s, "forward"): np.array([10_000.0]) for s in (0, 1)}
    split = replace(_ideal(2), durations=forwards | halves)
    whole = simulate(split, plan("Schedule1F1B", p=2, m=2), steps=1, seed=0).last
    assert {a.duration / 1000 for a in whole if a.kind == "backward"} == {20}


@given(p=st.integers(1, 6), rounds=st.integers(1, 4), v=st.integers(1, 3))
def test_free_messages_and_equal_stages_give_the_bubble_of_theory(
    p: int, rounds: int, v: int
) -> None:
    m = p * rounds
    for name in ("ScheduleGPipe", "Schedule1F1B", "ScheduleInterleaved1F1B"):
        chunks = v if name == "ScheduleInterleaved1F1B" else 1
        made = simulate(_ideal(p), plan(name, p=p, m=m, v=chunks), steps=1, seed=0)
        sizes = SchedulePlan(
            name=name, stages=p * chunks, microbatches=m, virtual_stages=chunks, pipeline_size=p
        )
        promised = theory_of(sizes).fraction_of_window
        assert promised is not None
        assert made.bubble_fraction_of_window == pytest.approx(promised, abs=1e-3)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_the_recorded_plan_is_predicted_as_measured(sample: Path) -> None:
    found = other_plans(open_run(sample), [])
    assert abs(found.model_error) < 0.03
    assert found.recorded.low_ns <= found.recorded.step_ns <= found.recorded.high_ns


def test_what_is_assumed_is_said(toy: StepModel) -> None:
    assert predict_plan(toy, plan("Schedule1F1B", p=3, m=8)).assumed == ()
    assert predict_plan(toy, plan("ScheduleZBVZeroBubble", p=3, m=6, v=2)).assumed == (
        "the input part takes 50 % of a backward",
        "layers cost the same throughout a recorded stage",
    )


def test_plans_like_the_recorded_one(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run", steps=2))
    made = plan_like(run, m=5)
    assert (made.schedule, made.p, made.m, made.v) == ("Schedule1F1B", 3, 5, 1)
    made = plan_like(run, schedule="Interleaved1F1B")
    assert (made.schedule, made.p, made.m, made.v) == ("ScheduleInterleaved1F1B", 3, 2, 2)
    with pytest.raises(UsageError, match="no schedule 'ScheduleMagic'"):
        plan_like(run, schedule="Magic")


def test_a_run_without_a_schedule_has_no_other_plans(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=9, kind="step")]}))
    assert not has_plans(run)
    with pytest.raises(UsageError, match="no pipeline schedule was recorded"):
        plan_like(run, m=2)
    with pytest.raises(UsageError, match="no pipeline schedule was recorded"):
        step_model(run)


def test_another_plan_and_another_stage_together_on_paper(tmp_path: Path) -> None:
    # 4 microbatches, stage 2 in half the time: F 5 and B 10 there.
    # rank 2: F0 22-27 B0 27-37 F1 37-42 B1 42-52 F2 69-74 B2 74-84 F3 101-106 B3 106-116
    # rank 1: F0 11-21 F1 21-31 B0 38-58 F2 58-68 B1 68-88 F3 90-100 B2 100-120 B3 120-140
    # rank 0: F0-F2 0-30 B0 59-79 F3 79-89 B1 89-109 B2 121-141 B3 141-161, and 6
    run = open_run(write_pipeline(tmp_path / "run", steps=4))
    wanted = [plan_like(run, m=4)]
    found = other_plans(run, wanted, scenario=stage_takes(2, 0.5))
    assert found.predictions[0].step_ns == pytest.approx(167_000)
    assert found.recorded.step_ns == pytest.approx(130_000)
    assert other_plans(run, wanted).predictions[0].step_ns == pytest.approx(194_000)
