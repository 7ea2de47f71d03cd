"""Memory and FLOPs on paper, bounded timelines, and a recorded run's microbatches."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.memory.memory import MOST_POINTS, PEAK, RESIDENT, measure_memory
from dashboard.analysis.memory.memory_summary import MemoryFigures, memory_figures
from dashboard.analysis.whole_run.flops import flops_utilization
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_counters, write_run
from tracer.schema import counters_file, events_file

ALLOCATED = "memory.allocated/bytes"


def test_memory_beside_microbatches_on_paper(tmp_path: Path) -> None:
    """1F1B, p = 3, m = 2. Rank 0: F0 0-10, F1 10-20, B0 74-94, B1 104-124: 1, 2, 1, 0 held."""
    path = write_pipeline(tmp_path / "run")
    rows = [(5_000, ALLOCATED, 100.0), (50_000, ALLOCATED, 300.0), (110_000, ALLOCATED, 200.0)]
    # Before the step and after it nothing counts; the allocator's own peak does.
    write_counters(path, 0, [*rows, (60_000, PEAK, 350.0), (999_000, ALLOCATED, 9e9)])
    found = measure_memory(open_run(path))
    assert found.counter == ALLOCATED
    first, second, third = found.ranks.to_pylist()
    assert first == {
        "rank": 0,
        "peak_bytes": 350.0,
        "peak_at": 50_000,
        "mean_bytes": 200.0,
        "peak_in_flight": 2,
        "plan_in_flight": 2,
    }
    assert (second["peak_bytes"], second["peak_in_flight"]) == (None, 2)
    assert (third["peak_in_flight"], third["plan_in_flight"]) == (1, 1)
    held = [
        (row["ts"] // 1000, row["count"]) for row in found.in_flight.to_pylist() if not row["rank"]
    ]
    assert held == [(0, 1), (10, 2), (94, 1), (124, 0)]
    assert found.timeline["bytes"].to_pylist() == [100.0, 300.0, 200.0]


def test_a_peak_of_earlier_steps_is_not_that_of_the_chosen_ones(tmp_path: Path) -> None:
    """Steps 0-130, 130-260, 260-390; the allocator tells the highest since the process began."""
    path = write_pipeline(tmp_path / "run", steps=3)
    rows = [(at, PEAK, peak) for at, peak in ((50_000, 500.0), (150_000, 500.0), (300_000, 700.0))]
    rows += [(at, ALLOCATED, 100.0) for at in (50_001, 150_001, 300_001)]
    write_counters(path, 0, rows)
    run = open_run(path)
    found = [measure_memory(run, [step]).ranks["peak_bytes"][0].as_py() for step in range(3)]
    assert found == [500.0, 100.0, 700.0]


def test_the_plan_is_that_of_the_ranks_own_place_where_one_before_it_is_missing(
    tmp_path: Path,
) -> None:
    path = write_pipeline(tmp_path / "run")
    (path / events_file(1)).unlink()
    # 1F1B of 3 ranks and 2 microbatches: F0 F1 B0 B1 holds 2 on rank 0, F0 B0 F1 B1 holds 1 on 2.
    rows = open_run(path).memory().ranks.to_pylist()
    assert [(row["rank"], row["plan_in_flight"]) for row in rows] == [(0, 2), (2, 1)]


def test_an_evaluation_holds_nothing(tmp_path: Path) -> None:
    """F0 of the evaluation 0-10; then F0 10-20, F1 20-30, B0 30-50, and B1 in parts 50-60-70."""
    rows = [
        ("forward", 0, 0, 10),
        ("forward", 0, 10, 20),
        ("forward", 1, 20, 30),
        ("backward", 0, 30, 50),
        ("backward_input", 1, 50, 60),
        ("backward_weight", 1, 60, 70),
    ]
    events = [Event(start=0, duration=80, kind="step", name="step")]
    events += [
        Event(start=start, duration=end - start, kind=kind, stage=0, microbatch=number)
        for kind, number, start, end in rows
    ]
    found = measure_memory(open_run(write_run(tmp_path / "run", {0: events})))
    held = [(row["ts"], row["count"]) for row in found.in_flight.to_pylist()]
    assert held == [(10, 1), (20, 2), (50, 1), (70, 0)]
    assert found.ranks["peak_in_flight"].to_pylist() == [2]


def test_counters_of_another_run_or_damaged_are_left_out(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "run")
    write_counters(path, 0, [(5_000, RESIDENT, 1.0)], run_id="other")
    (path / counters_file(1)).write_bytes(b"nonsense")
    write_counters(path, 2, [(5_000, RESIDENT, 7.0)])
    found = measure_memory(open_run(path))
    assert found.counter == RESIDENT
    assert found.timeline.to_pylist() == [{"rank": 2, "ts": 5_000, "bytes": 7.0}]


def test_a_long_timeline_is_bounded_and_keeps_its_peak(tmp_path: Path) -> None:
    event = Event(start=0, duration=100_000, kind="step", name="step")
    path = write_run(tmp_path / "run", {0: [event]})
    values = [float(n % 97) for n in range(10_000)]
    values[7_777] = 1e6
    write_counters(path, 0, [(n, RESIDENT, value) for n, value in enumerate(values)])
    found = measure_memory(open_run(path))
    assert found.timeline.num_rows == MOST_POINTS
    rows = {row["ts"]: row["bytes"] for row in found.timeline.to_pylist()}
    assert rows[7_777] == 1e6
    assert all(values[ts] == value for ts, value in rows.items())
    assert found.ranks["peak_bytes"].to_pylist() == [1e6]


def test_flops_utilization_on_paper(tmp_path: Path) -> None:
    """6e9 FLOPs a step of 2 ms on 3 ranks: 1e12 a second and rank, a quarter of a peak of 4e12."""
    events = {rank: [Event(start=0, duration=2, kind="step", name="step")] for rank in range(3)}
    config = {"flops_per_step": 6e9, "peak_flops": 4e12}
    path = write_run(tmp_path / "run", events, config=config, scale=1_000_000)
    found = flops_utilization(open_run(path))
    assert found.per_rank == pytest.approx(1e12)
    assert found.mfu == pytest.approx(0.25)
    assert found.source == "config of the run: flops_per_step"
    assert str(found) == "25.0 %, 1 TFLOP/s per rank"


@pytest.mark.parametrize("given", [{}, {"flops_per_step": "many"}, {"flops_per_step": True}])
def test_flops_that_nobody_tells_are_unknown(tmp_path: Path, given: dict[str, object]) -> None:
    step = Event(start=0, duration=2, kind="step", name="step")
    found = flops_utilization(open_run(write_run(tmp_path / "run", {0: [step]}, config=given)))
    assert (found.flops_per_step, found.mfu, found.source) == (None, None, "")
    assert str(found).startswith('unknown; Tracer(…, config={"flops_per_step": …')


def test_flops_of_events_count_where_the_config_is_silent(tmp_path: Path) -> None:
    events = [
        Event(start=0, duration=2, kind="step", name="step"),
        Event(start=0, duration=1, kind="forward", name="F", flops=4_000),
        Event(start=1, duration=1, kind="backward", name="B", flops=8_000),
    ]
    found = flops_utilization(open_run(write_run(tmp_path / "run", {0: events}, scale=1000)))
    assert found.flops_per_step == 12_000
    assert found.per_rank == pytest.approx(12_000 / 2e-6)
    assert (found.mfu, found.source) == (None, "recorded events")
    said = 'unknown, since the config names no "peak_flops" of a rank; 6 GFLOP/s per rank'
    assert str(found) == said


def test_a_recorded_pipeline_holds_what_its_plan_says() -> None:
    for sample, expected in (("pp4-1f1b-balanced", [4, 3, 2, 1]), ("pp4-gpipe", [8] * 4)):
        ranks = measure_memory(open_run(Path("sample_traces") / sample)).ranks
        assert ranks["peak_in_flight"].to_pylist() == expected
        assert ranks["plan_in_flight"].to_pylist() == expected


def test_the_headline_is_the_highest_peak_against_the_median_of_the_others(tmp_path: Path) -> None:
    """Peaks of 300, 500 and 200 B; step 0 is 0-130 µs, and rank 1 peaks at 50 µs."""
    path = write_pipeline(tmp_path / "run")
    for rank, most in enumerate((300.0, 500.0, 200.0)):
        write_counters(path, rank, [(5_000, ALLOCATED, 100.0), (50_000, ALLOCATED, most)])
    run = open_run(path)
    assert memory_figures(run, run.memory()) == MemoryFigures(
        peak_rank=1,
        peak_bytes=500.0,
        peak_at=50_000,
        peak_step=0,
        usual_bytes=250.0,
        held_rank=0,
        held=2,
        planned=2,
    )


def test_a_run_without_samples_and_pipeline_has_no_headline(tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=10, kind="step", name="step")]}
    run = open_run(write_run(tmp_path / "run", events))
    assert memory_figures(run, run.memory()) == MemoryFigures()
