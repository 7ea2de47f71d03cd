"""A predicted step: on paper, against what was measured, and with another plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboard import Run, open_run
from dashboard.analysis.pipeline.actions import pipelines
from dashboard.analysis.pipeline.schedule import step_schedule
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.other_plans import plan_like, predict_plan
from dashboard.analysis.replay.predicted_step import (
    planned_step,
    replayed_step,
    typical_step,
)
from dashboard.analysis.replay.scenarios import (
    as_recorded,
    balanced_stages,
    faster_communication,
    stage_takes,
    together,
)
from dashboard.analysis.replay.step_model import changed_model, step_model
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run

SAMPLES = Path(__file__).parents[4] / "sample_traces"
FREE = float("inf")


@pytest.fixture
def paper(tmp_path: Path) -> Run:
    return open_run(write_pipeline(tmp_path / "run", steps=2))


@pytest.fixture(scope="module")
def sample() -> Run:
    return open_run(SAMPLES / "pp4-1f1b-slow-stage")


def _boxes(table: object) -> dict[tuple[int, str, int], tuple[int, int]]:
    return {
        (row["rank"], row["kind"][0], row["microbatch"]): (
            row["start"] // 1000,
            (row["start"] + row["duration"]) // 1000,
        )
        for row in table.to_pylist()  # type: ignore[attr-defined]
    }


def test_free_messages_pull_everything_forward_on_paper(paper: Run) -> None:
    """Messages take 1. Without them F0 of rank 1 is 10-20, of rank 2 20-30; its B0 30-50."""
    found = replayed_step(paper, faster_communication("pp", FREE), (0, 1, 2))
    before, after = _boxes(found.measured), _boxes(found.predicted)
    assert (before[1, "f", 0], before[2, "f", 0], before[2, "b", 0]) == (
        (11, 21),
        (22, 32),
        (32, 52),
    )
    assert (after[1, "f", 0], after[2, "f", 0], after[2, "b", 0]) == ((10, 20), (20, 30), (30, 50))
    assert after[0, "b", 1][1] < before[0, "b", 1][1]


def test_a_stage_that_takes_half_on_paper(paper: Run) -> None:
    """Stage 2 at half: F0 22-27, B0 27-37; so B0 of stage 1, held up until then, is 38-58."""
    after = _boxes(replayed_step(paper, stage_takes(2, 0.5), (0, 1, 2)).predicted)
    assert (after[2, "f", 0], after[2, "b", 0], after[1, "b", 0]) == ((22, 27), (27, 37), (38, 58))


def test_nothing_changed_is_what_was_measured(sample: Run) -> None:
    ranks = next(iter(pipelines(sample).values()))
    found = replayed_step(sample, together([]), ranks)
    assert found.predicted.equals(found.measured)
    measured = step_schedule(sample, found.step, "pipeline").measured
    assert _boxes(found.measured) == _boxes(measured)


def test_the_step_that_is_drawn_is_nearest_to_the_median(sample: Run) -> None:
    graph = sample.answer(dependency_graph)
    found = replayed_step(sample, together([]), (0,))
    assert found.step == typical_step(graph)
    assert set(found.measured["rank"].to_pylist()) == {0}


def test_a_run_without_stages_has_nothing_to_draw(tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=10, kind="step", name="step")]}
    run = open_run(write_run(tmp_path / "run", events))
    assert replayed_step(run, together([]), (0,)).predicted.num_rows == 0


def test_the_changed_model_has_the_costs_of_the_choice(paper: Run) -> None:
    """Stage 2 at half: forwards of 5, backwards of 10. Messages of 1 free: hand-overs of 0."""
    graph, model = paper.answer(dependency_graph), step_model(paper)
    choice = together([stage_takes(2, 0.5), faster_communication("pp", FREE)])
    changed = changed_model(model, graph, choice.apply(graph, as_recorded(graph)))
    means = {key: float(np.mean(known)) / 1000 for key, known in changed.durations.items()}
    assert (means[2, "forward"], means[2, "backward"]) == (5, 10)
    assert (means[1, "forward"], means[1, "backward"]) == (10, 20)
    assert model.hand_over.tolist() == [1000] * len(model.hand_over)
    assert not changed.hand_over.any()


def test_replay_and_model_agree_on_balanced_stages_of_the_recorded_plan(sample: Run) -> None:
    ranks = next(iter(pipelines(sample).values()))
    prediction, step = planned_step(sample, balanced_stages(), plan_like(sample), ranks)
    replayed = sample.what_if([balanced_stages()]).predictions[0].step_ns
    assert prediction.step_ns == pytest.approx(replayed, rel=0.02)
    assert step.predicted.num_rows == step.measured.num_rows == 4 * 8 * 2


def test_with_more_microbatches_all_of_them_are_drawn(sample: Run) -> None:
    ranks = next(iter(pipelines(sample).values()))
    plan = plan_like(sample, schedule="GPipe", m=12)
    prediction, step = planned_step(sample, together([]), plan, ranks)
    assert prediction == predict_plan(step_model(sample), plan)
    assert step.predicted.num_rows == 4 * 12 * 2
    assert min(step.predicted["start"].to_pylist()) == 0
