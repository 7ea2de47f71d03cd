"""Layouts on paper, their grid, and the layout of a recorded run predicted from another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.layouts.costs import TensorCosts, action_costs
from dashboard.analysis.layouts.layout import Layout, grid_of
from dashboard.analysis.layouts.layouts import explore_layouts, rank_correlation
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.replay import step_times
from dashboard.analysis.replay.step_model import step_model
from dashboard.run import Run
from tests.support import data_parallel_toy
from tests.support.pipeline_toy import write_pipeline
from tracer.errors import UsageError

SAMPLES = Path("sample_traces")
GPIPE = "ScheduleGPipe"


@pytest.fixture
def toy(tmp_path: Path) -> Run:
    """p3 t1 d1 m2: F 10, B 20, a message 1; rank 0 has 6 left after its last action."""
    return open_run(write_pipeline(tmp_path / "run", steps=3))


def _predicted(run: Run, layout: Layout, **more: float) -> float:
    (found,) = explore_layouts(run, [layout], **more).predictions  # type: ignore[arg-type]
    return found.step_ns / 1000


def test_three_stages_on_one_rank_on_paper(toy: Run) -> None:
    """All 30 + 60 of a microbatch one after the other, twice, and the 6."""
    assert _predicted(toy, Layout(p=1, t=1, d=1, m=2, v=1, schedule=GPIPE)) == 2 * 90 + 3 * 6


def test_tensor_ranks_share_the_compute_on_paper(toy: Run) -> None:
    """Three ranks share it all: F 10, B 20. Two thirds shared: F 30/3 + 30/3·(2/3) = 50/3 …

    Without layers there is no communication in it, and that is said.
    """
    layout = Layout(p=1, t=3, d=1, m=2, v=1, schedule=GPIPE)
    assert _predicted(toy, layout) == pytest.approx(2 * 30 + 6)
    half = _predicted(toy, layout, split_share=0.5)
    assert half == pytest.approx(2 * (0.5 * 90 + 0.5 * 30) + 6)
    (found,) = explore_layouts(toy, [layout]).predictions
    assert "tp communication is not included: none was recorded" in found.assumed


def test_reductions_of_layers_are_rings_of_messages_on_paper(toy: Run) -> None:
    """Three layers, two reductions each and direction, of 2·(3 − 1) messages: 24 per action."""
    layout = Layout(p=1, t=3, d=1, m=2, v=1, schedule=GPIPE)
    assert _predicted(toy, layout, layers=3) == pytest.approx(2 * (10 + 24 + 20 + 24) + 6)
    (found,) = explore_layouts(toy, [layout], layers=3).predictions
    # Of a step of 162: 96, two forwards and backwards of 10 and 20, and the optimizer.
    shares = {part: 162 * share for part, share in found.shares.items()}
    assert shares == pytest.approx(
        {
            "compute": 60,
            "tp communication": 96,
            "pp communication": 0,
            "dp communication": 0,
            "optimizer and other work": 6,
            "bubble": 0,
        }
    )
    assert found.limit == "tp communication"


def test_activations_on_paper(toy: Run) -> None:
    """1F1B holds 2 microbatches of a third of the model; GPipe on one rank 2 of all of it."""
    (found,) = explore_layouts(toy, [Layout(p=1, t=1, d=1, m=2, v=1, schedule=GPIPE)]).predictions
    assert found.activations == pytest.approx(2 / (2 / 3))


def test_operations_of_more_ranks_on_paper() -> None:
    """Recorded with 2 ranks at 10: a ring of 4 has 3 times the hops."""
    costs = TensorCosts(count={}, recorded_t=2, recorded_ns=10, bytes=8, line=None, hop=None)
    assert [costs.each_ns(t) for t in (1, 2, 4)] == [0, 10, 30]


@pytest.mark.parametrize("sample", ["pp4-1f1b-balanced", "pp4-gpipe"])
def test_without_tensor_ranks_actions_are_compute_alone(sample: str) -> None:
    """Both are of the same steps, so that nothing is left over, or missing."""
    run = open_run(SAMPLES / sample)
    costs = action_costs(run, step_model(run))
    for key, whole in costs.whole.items():
        assert costs.compute[key] == pytest.approx(whole, rel=1e-3)


def test_the_grid_keeps_the_batch() -> None:
    here = Layout(p=2, t=1, d=1, m=4, v=1, schedule="Schedule1F1B")
    found = {str(layout) for layout in grid_of(here, 2)}
    assert found == {
        "p1 t1 d2 m2 1F1B",
        "p1 t2 d1 m4 1F1B",
        "p2 t1 d1 m4 1F1B",
        "p2 t1 d1 m4 GPipe",
        "p2 t1 d1 m4 v2 Interleaved1F1B",
        "p2 t1 d1 m4 v2 ZBVZeroBubble",
        "p2 t1 d1 m8/2 1F1B",
        "p2 t1 d1 m8/2 GPipe",
        "p2 t1 d1 m8/2 v2 Interleaved1F1B",
        "p2 t1 d1 m8/2 v2 ZBVZeroBubble",
    }


def test_a_run_without_a_pipeline_is_told_what_to_record(tmp_path: Path) -> None:
    run = open_run(data_parallel_toy.write(tmp_path / "run", [((10, 20), (10, 20))] * 4))
    with pytest.raises(UsageError, match=r"run: recorded without a pipeline.*small pipeline"):
        explore_layouts(run)


def test_rank_correlation_on_paper() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)


def test_a_recorded_layout_from_another_one() -> None:
    """The samples train 4 stages of one chunk of work, or 2 stages of one chunk on 2 ranks each:
    the second is the first with its work shared by two. (Its four processes were recorded on two
    cores, and wait for each other's in every all_reduce.)
    """
    base = open_run(SAMPLES / "pp4-1f1b-balanced")
    other = open_run(SAMPLES / "pp2-tp2-1f1b")
    layout = Layout(p=2, t=2, d=1, m=8, v=1, schedule="Schedule1F1B")
    found = explore_layouts(base, [layout], layers=2)
    graph = dependency_graph(other)
    measured = step_times(graph, graph.time).mean_ns
    assert found.predictions[0].step_ns == pytest.approx(measured, rel=0.1)
    assert abs(found.model_error) < 0.03


def test_who_watches_is_told_of_each_prediction(toy: Run) -> None:
    told: list[int] = []

    @contextmanager
    def watch(total: int) -> Iterator[Callable[[int], object]]:
        told.append(total)
        yield told.append

    found = explore_layouts(toy, layers=3, gradients=1e6, watch=watch).predictions
    assert told == [len(found), *[1] * len(found)]
    assert found
