"""The generator of large runs: what it was told to put in is what the analyses find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from benchmarks.generate import SAMPLE, events_per_step, simulated
from benchmarks.simulated.statistics import statistics
from benchmarks.simulated.training import Straggler
from benchmarks.simulated.writing import Hosts, write_run
from dashboard import Run, open_run
from dashboard.analysis.pipeline.plans import SCHEDULES
from dashboard.analysis.whole_run.integrity import violations

STEPS = 6
SLOW = Straggler(rank=6, first=2, end=5, slow=1.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("simulated") / "run"
    training = simulated(
        pipeline=4, tensor=2, data=2, microbatches=8, stragglers=(SLOW,), jitter=0.02, seed=3
    )
    hosts = Hosts(ranks_per_host=4, error_us=20)
    count = write_run(path, training, steps=STEPS, hosts=hosts, kernels=2, sample=SAMPLE.name)
    assert count == STEPS * events_per_step(training, kernels=2)
    found = open_run(path)
    assert found.event_count == count
    return found


def test_it_says_that_it_is_simulated_and_what_was_put_in(run: Run) -> None:
    assert run.meta.simulated
    said = run.meta.config["simulation"]
    assert said["simulated_from"] == SAMPLE.name
    assert said["stragglers"] == [{"rank": 6, "first": 2, "end": 5, "slow": 1.5}]
    assert [run.facts[rank].host for rank in (0, 3, 4, 15)] == [
        "simulated-0000", "simulated-0000", "simulated-0001", "simulated-0003",
    ]  # fmt: skip


def test_it_is_whole(run: Run) -> None:
    """Plan, messages, collectives and causality; 4 hosts with clocks up to 4 s apart."""
    assert not run.problems
    assert violations(run) == []
    assert run.steps == tuple(range(STEPS))
    assert run.clock.method == "exchange between hosts"
    assert run.clock.violations == 0
    assert run.clock.checked > 0


def test_clocks_are_recovered_to_within_the_stated_bound(run: Run) -> None:
    """The truth is in run.json; of any time of each host's ranks."""
    clocks = run.meta.config["simulation"]["clocks"]
    true = np.linspace(0, run.duration_ns, 50)
    root = run.clock.maps[0].to_common(np.rint(3_600e9 + true).astype(np.int64))
    for rank in run.ranks:
        clock = clocks[rank // 4]
        raw = np.rint(3_600e9 + clock["offset_ns"] + true * (1 + clock["drift"])).astype(np.int64)
        error = np.abs(run.clock.maps[rank].to_common(raw) - root)
        assert run.clock.bound_ns is not None
        assert error.max() <= run.clock.bound_ns + 1


def test_the_straggler_that_was_put_in_is_found(run: Run) -> None:
    worst = run.stragglers().found[0]
    assert worst.rank == SLOW.rank
    assert {seen.step for seen in worst.evidence} <= set(range(SLOW.first, SLOW.end))


def test_work_takes_as_long_as_in_the_sample(run: Run) -> None:
    """Means of compute per action, of ranks that are not slow, within the jitter."""

    def mean(of: Run, rank: int) -> float:
        table = of.accounting().table
        mine = pc.and_(pc.equal(table["rank"], rank), pc.equal(table["category"], "compute"))
        actions = of.events(ranks=[rank], kinds=["forward", "backward"], steps=of.steps).num_rows
        return float(pc.sum(table.filter(mine)["duration"]).as_py()) / actions

    sample = open_run(SAMPLE)
    assert mean(run, 0) == pytest.approx(mean(sample, 0), rel=0.1)
    assert mean(run, 15) == pytest.approx(mean(sample, 3), rel=0.1)


def test_medians_are_those_of_the_run_that_it_was_drawn_from(tmp_path: Path) -> None:
    """The sample's own layout again, 40 steps: every median within 2 %, the step within 5 %.

    Of n draws the median scatters by about 1.25 σ/√n; here σ is some percent, n 320 and more.
    """
    recorded = statistics(open_run(SAMPLE))
    training = simulated(
        pipeline=2, tensor=2, data=1, microbatches=recorded.model.m, jitter=0.0, seed=5
    )
    write_run(tmp_path / "run", training, steps=40, hosts=Hosts(ranks_per_host=4))
    made = statistics(open_run(tmp_path / "run"))

    assert made.collectives == recorded.collectives
    assert made.bytes == recorded.bytes
    for (stage, kind), durations in recorded.work.items():
        expected = pytest.approx(np.median(durations), rel=0.02)
        assert np.median(made.work[stage, kind]) == expected, (stage, kind)
    for name, found, wanted in (
        ("transfer", made.transfer_ns["tp"], recorded.transfer_ns["tp"]),
        ("call", made.call_ns["collective"], recorded.call_ns["collective"]),
        ("optimizer", made.optimizer_ns, recorded.optimizer_ns),
        ("turnaround", made.model.turnaround, recorded.model.turnaround),
    ):
        assert np.median(found) == pytest.approx(np.median(wanted), rel=0.02), name
    expected = pytest.approx(np.median(recorded.model.step_ns), rel=0.05)
    assert np.median(made.model.step_ns) == expected


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_gives_a_whole_run(schedule: str, tmp_path: Path) -> None:
    virtual = SCHEDULES[schedule].virtual or 2
    training = simulated(
        pipeline=2, tensor=2, data=1, microbatches=4, schedule=schedule, virtual=virtual
    )
    write_run(tmp_path / "run", training, steps=2, hosts=Hosts(ranks_per_host=4))
    found = open_run(tmp_path / "run")
    assert violations(found) == []
    assert found.steps == (0, 1)
    bubbles = found.bubbles()
    assert bubbles.theory is not None
    ratios = bubbles.steps["bubble_fraction_of_window"].to_pylist()
    assert len(ratios) == 2 * 2, "steps × pipelines"
    assert all(0 < ratio < 1 for ratio in ratios)


def test_blocks_of_steps_give_the_same_counts_and_go_on_in_time(tmp_path: Path) -> None:
    """Steps simulated one at a time number operations on, and begin where the last one ended."""
    training = simulated(pipeline=2, tensor=2, data=2, microbatches=2)
    ends = [float(block.after.max()) for block in training.blocks(3, at_once=1)]
    begins = [float(block.begin.min()) for block in training.blocks(3, at_once=1)]
    assert begins[0] == 0
    assert ends == sorted(ends)
    assert len(ends) == 3
