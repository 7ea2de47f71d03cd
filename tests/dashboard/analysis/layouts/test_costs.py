"""What lies outside of the plan, reductions over other data ranks, and memory, on paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboard import open_run
from dashboard.analysis.communication.latency_bandwidth import Line
from dashboard.analysis.layouts.data_costs import DataCosts
from dashboard.analysis.layouts.layout import Layout
from dashboard.analysis.layouts.layouts import explore_layouts
from dashboard.analysis.layouts.memory import memory_costs
from dashboard.analysis.pipeline.actions import pipeline_actions
from dashboard.analysis.replay.outside_of_plan import Outside, outside_of_plan
from dashboard.run import Run
from tests.dashboard.analysis.memory.test_memory import ALLOCATED
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_counters, write_run

GPIPE = "ScheduleGPipe"
GROUP = "dp:0-1"
STEP = 55


def _step(step: int, rank: int) -> list[Event]:
    """F 0-10, B 10-30, the reduction asked for at 30 (rank 1: at 35, after 5 more of B), waited for
    until 45, the optimizer 45-50, data 50-55.
    """
    at, issued = step * STEP, 30 + 5 * rank
    action = {"stage": 0, "microbatch": 0, "step": step}
    of_group = {"group": GROUP, "seq": step, "bytes": 4000, "correlation": step, "step": step}
    return [
        Event(start=at, duration=STEP, kind="step", name="step", step=step),
        Event(start=at, duration=10, kind="forward", name="F", **action),
        Event(start=at + 10, duration=issued - 10, kind="backward", name="B", **action),
        Event(start=at + issued, duration=0, kind="collective", name="all_reduce", **of_group),
        Event(start=at + issued, duration=45 - issued, kind="wait", name="all_reduce", **of_group),
        Event(start=at + 45, duration=5, kind="optimizer", name="SGD.step", step=step),
        Event(start=at + 50, duration=5, kind="data", name="next", step=step),
    ]  # fmt: skip


@pytest.fixture
def data_parallel(tmp_path: Path) -> Run:
    """p1 t1 d2 m1, four steps."""
    events = {rank: [e for step in range(4) for e in _step(step, rank)] for rank in (0, 1)}
    facts = {
        rank: RankFacts(
            coordinates={"pp": 0, "dp": rank},
            stages=(0,),
            groups={GROUP: {"dim": "dp", "ranks": [0, 1]}},
        )
        for rank in events
    }
    schedule = {
        "name": GPIPE, "stages": 1, "microbatches": 1, "virtual_stages": 1, "pipeline_size": 1,
        "plan": {"0": ["0F0", "0B0"]},
    }  # fmt: skip
    mesh = {"names": ["pp", "dp"], "shape": [1, 2], "coordinates": {"0": [0, 0], "1": [0, 1]}}
    path = write_run(
        tmp_path / "run", events, facts=facts, schedule=schedule, mesh=mesh, scale=1000
    )
    return open_run(path)


def test_what_lies_outside_of_the_plan(data_parallel: Run) -> None:
    """All are there at 35: the reduction takes 10, and rank 0's wait for rank 1 is left out."""
    (found,) = outside_of_plan(data_parallel, pipeline_actions(data_parallel))
    assert set(found.whole / 1000) == {20}
    assert set(found.reduction / 1000) == {10}
    assert set(found.loading / 1000) == {5}


@pytest.mark.parametrize(
    ("d", "step"),
    [
        # No reduction. Actions are drawn from both ranks: 10 and 20 or 25.
        (1, 10 + 22.5 + 10),
        # A ring of 4 sends 3/4 twice, one of 2 1/2: the reduction takes 15.
        (4, 10 + 22.5 + 15 + 10),
    ],
)
def test_other_data_ranks(data_parallel: Run, d: int, step: float) -> None:
    layout = Layout(p=1, t=1, d=d, m=1, v=1, schedule=GPIPE)
    (found,) = explore_layouts(data_parallel, [layout]).predictions
    assert found.step_ns / 1000 == pytest.approx(step, abs=1.5)
    assert found.shares["dp communication"] * found.step_ns / 1000 == pytest.approx(
        15 if d == 4 else 0
    )
    assert sum(found.shares.values()) == pytest.approx(1)
    assert ("gradients are reduced at the recorded bandwidth" in found.assumed) == (d == 4)


def _costs(**more: object) -> DataCosts:
    fields = {"recorded_d": 2, "gradients": None, "bytes": 4000.0, "line": None, "hop": None}
    return DataCosts(**(fields | more))  # type: ignore[arg-type]


def _line(op: str, n: int, alpha: float, beta: float) -> Line:
    return Line(
        group="g", dim="dp", op=op, n=n, alpha_ns=alpha, beta_gbps=beta, error=0.0, count=9,
        sizes=3, low_bytes=100, high_bytes=9000, median_ns=100.0, left_out=0,
    )  # fmt: skip


def test_reductions_of_other_sizes_on_paper() -> None:
    recorded = Outside(whole=np.array([24.0]), reduction=np.array([10.0]), loading=np.array([4.0]))

    def asked(costs: DataCosts, parts: int, d: int) -> tuple[float, float]:
        found = costs.outside(recorded, parts=parts, recorded_parts=2, d=d)
        return float(found.whole[0]), float(found.reduction[0])

    # Half the parameters: the optimizer's 10 become 5, the reduction 5, loading stays.
    assert asked(_costs(), 4, 2) == (14, 5)
    assert asked(_costs(), 2, 1) == (14, 0)
    # alpha 1000 + 4000 B x 2 (n - 1)/n / 4 GB/s: 2000 ns with 2 ranks; with 4 and twice the
    # bytes 1000 + 8000 x 1.5 / 4 = 4000, twice as long.
    fitted = _costs(line=_line("all_reduce", 2, 1000.0, 4.0))
    assert asked(fitted, 1, 4) == (20 + 4 + 20, 20)
    # None recorded, 800 bytes in all: 2 (4 - 1) messages of 800 / 2 / 4 bytes, 10 + 100 / 10 each.
    told = _costs(recorded_d=1, gradients=800.0, hop=_line("p2p", 2, 10.0, 10.0))
    assert asked(told, 2, 4) == (14 + 120, 120)


def test_peak_memory_on_paper(tmp_path: Path) -> None:
    """Each rank has 20 bytes and 10 more per microbatch that it holds; the model 60 and 30."""
    path = write_pipeline(tmp_path / "run", steps=3)
    for rank, samples in {
        0: [(0, 30), (15_000, 40), (100_000, 30), (126_000, 20)],
        1: [(15_000, 30), (40_000, 40), (90_000, 30), (110_000, 20)],
        2: [(5_000, 20), (25_000, 30), (90_000, 20)],
    }.items():
        write_counters(path, rank, [(at, ALLOCATED, float(size)) for at, size in samples])
    run = open_run(path)
    here = Layout(p=3, t=1, d=1, m=2, v=1, schedule="Schedule1F1B")
    costs = memory_costs(run, here)
    assert costs is not None
    assert (costs.static, costs.per_microbatch) == (pytest.approx(60), pytest.approx(30))


def test_resident_memory_tells_no_peaks(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run", steps=3))
    assert memory_costs(run, Layout(p=3, t=1, d=1, m=2, v=1, schedule="Schedule1F1B")) is None
    (found,) = explore_layouts(run, [Layout(p=1, t=1, d=1, m=2, v=1, schedule=GPIPE)]).predictions
    assert found.peak_bytes is None
