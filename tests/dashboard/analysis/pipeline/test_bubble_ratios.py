"""Bubble ratios by step: on paper, and as `measure_bubbles` has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.generate import simulated
from benchmarks.simulated.writing import Hosts
from benchmarks.simulated.writing import write_run as write_simulated
from dashboard import Run, open_run
from dashboard.analysis.pipeline.bubble_ratios import (
    PipelineSteps,
    bubble_ratios,
    joined_pipelines,
    pipeline_steps,
)
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT


def ratios(run: Run) -> list[float] | None:
    parts = [pipeline_steps(run, rank, run.steps) for rank in run.ranks]
    found = bubble_ratios(run, joined_pipelines(parts), run.steps)
    return None if found is None else found.tolist()


def measured(run: Run) -> list[float] | None:
    """From `measure_bubbles`: the mean of the ratios that a step has."""
    by_step: dict[int, list[float]] = {step: [] for step in run.steps}
    for row in run.bubbles().steps.to_pylist():
        if row["bubble_fraction_of_window"] is not None:
            by_step[row["step"]].append(row["bubble_fraction_of_window"])
    if not by_step or not all(by_step.values()):
        return None
    return [float(np.mean(of)) for of in by_step.values()]


def test_the_pipeline_on_paper(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "a", steps=2))
    # The window is 0-124 on three ranks, each of which works 2 × 10 + 2 × 20.
    assert ratios(run) == pytest.approx([1 - 3 * 60 / (3 * 124)] * 2)
    first = pipeline_steps(run, 0, run.steps[:1])
    assert (first.begin.tolist(), first.end.tolist()) == ([[0]], [[124_000]])
    assert first.busy.tolist() == [[60_000]]
    assert bubble_ratios(run, joined_pipelines([first]), run.steps) is None, "step 1 has none"


@pytest.mark.parametrize("name", ["pp4-1f1b-slow-stage", "pp2-tp2-1f1b", "pp4-gpipe"])
def test_recorded_runs_have_the_ratios_that_bubbles_have(name: str) -> None:
    run = open_run(ROOT / "sample_traces" / name)
    expected = measured(run)
    assert expected is not None
    assert ratios(run) == pytest.approx(expected, rel=1e-12)


def test_pipelines_of_several_ranks_are_told_apart(tmp_path: Path) -> None:
    training = simulated(pipeline=2, tensor=2, data=2, microbatches=4, jitter=0.2)
    write_simulated(tmp_path / "run", training, steps=4, hosts=Hosts(ranks_per_host=8))
    run = open_run(tmp_path / "run")
    assert len(set(run.bubbles().steps["group"].to_pylist())) == 4
    assert ratios(run) == pytest.approx(measured(run), rel=1e-12)


def test_pipelines_of_which_one_lacks_a_rank_or_has_no_action_in_a_step(tmp_path: Path) -> None:
    """Each rank of pipeline tp=0 works 10 of 20, in step 0 alone; of tp=1 only rank 2 can be read,
    which works 15 of 20 in step 0, and 10 of 20 in step 1.
    """
    work: dict[int, list[tuple[int, ...]]] = {
        0: [(0, 10), ()],
        1: [(10, 10), ()],
        2: [(0, 10, 15, 5), (0, 5, 15, 5)],
        3: [(), ()],
    }
    rows = {
        rank: [
            event
            for step, spans in enumerate(of_steps)
            for event in (
                Event(start=100 * step, duration=100, kind="step", step=step),
                *_work(100 * step, step, rank % 2, spans),
            )
        ]
        for rank, of_steps in work.items()
    }
    facts = {
        rank: RankFacts(coordinates={"pp": rank % 2, "tp": rank // 2}, stages=(rank % 2,))
        for rank in rows
    }
    path = write_run(tmp_path / "run", rows, facts=facts)
    (path / "rank-00003.arrows").unlink()
    run = open_run(path)
    assert run.ranks == (0, 1, 2)
    assert ratios(run) == pytest.approx([((40 - 20) / 40 + (20 - 15) / 20) / 2, 10 / 20])
    assert measured(run) == pytest.approx(ratios(run))


def _work(begin: int, step: int, stage: int, spans: Sequence[int]) -> list[Event]:
    """spans: starts and lengths in turn."""
    return [
        Event(
            start=begin + start, duration=long, kind="forward", step=step, stage=stage, microbatch=n
        )
        for n, (start, long) in enumerate(zip(spans[::2], spans[1::2], strict=True))
    ]


actions = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 99), st.integers(0, 40)),
    max_size=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions)
def test_any_actions_give_the_ratios_that_bubbles_have_and_in_any_grouping(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, int, int]]
) -> None:
    """Overlapping ones, ones without length, ranks and steps without any."""
    rows = {
        rank: [Event(start=100 * step, duration=100, kind="step", step=step) for step in range(3)]
        for rank in (0, 1)
    }
    for number, (rank, step, start, duration) in enumerate(drawn):
        rows[rank].append(
            Event(
                start=100 * step + start, duration=duration, kind="forward", step=step, stage=rank,
                microbatch=number,
            )
        )  # fmt: skip
    facts = {rank: RankFacts(coordinates={"pp": rank}, stages=(rank,)) for rank in (0, 1)}
    run = open_run(write_run(tmp_path_factory.mktemp("any") / "run", rows, facts=facts))
    expected = measured(run)
    assert ratios(run) == (None if expected is None else pytest.approx(expected, rel=1e-12))
    parts = [pipeline_steps(run, rank, [step]) for rank in (1, 0) for step in (2, 0, 1)]
    in_turn: PipelineSteps = parts[0]
    for part in parts[1:]:
        in_turn = joined_pipelines([part, in_turn])
    found = bubble_ratios(run, in_turn, run.steps)
    assert (None if found is None else found.tolist()) == ratios(run)
