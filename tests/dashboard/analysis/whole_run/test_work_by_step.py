"""Work by rank and step against the median, on paper, by property, and on a recorded run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.whole_run import work_by_step as module
from dashboard.analysis.whole_run.work_by_step import work_by_step
from tests.support.straggler_toy import More, Toy
from tests.support.toy import Event, write_run

SAMPLES = Path(__file__).parents[4] / "sample_traces"


def test_cells_are_work_against_the_median_of_all(tmp_path: Path) -> None:
    """Three ranks work 100 in three steps, rank 1 in step 2 another 50; its step begins at 240."""
    toy = Toy(steps=3, more={(2, 1): More(work=50)})
    found = work_by_step(open_run(toy.write(tmp_path / "run")))
    assert (found.median_ns, found.stretch, found.first_steps) == (100_000, 1, (0, 1, 2))
    cells = {(row["rank"], row["step"]): row for row in found.table.to_pylist()}
    assert cells[1, 2]["excess"] == pytest.approx(0.5)
    assert (cells[1, 2]["start"], cells[1, 2]["duration"]) == (240_000, 170_000)
    assert {cell["excess"] for key, cell in cells.items() if key != (1, 2)} == {0}


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(odd=st.integers(0, 6), most=st.integers(1, 8))
def test_however_few_columns_the_busiest_step_is_seen(
    tmp_path_factory: pytest.TempPathFactory, odd: int, most: int
) -> None:
    toy = Toy(ranks=2, steps=7, more={(odd, 1): More(work=50)})
    run = open_run(toy.write(tmp_path_factory.mktemp("run")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_STEPS", most)
        found = work_by_step(run)
    assert len(found.first_steps) <= most
    rows = found.table.to_pylist()
    assert len(rows) == 2 * len(found.first_steps)
    busiest = max(rows, key=lambda row: row["work_ns"])
    assert (busiest["rank"], busiest["step"]) == (1, odd)


def test_without_work_there_is_no_share(tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=10, kind="step", name="step")]}
    found = work_by_step(open_run(write_run(tmp_path / "run", events)))
    assert found.table["excess"].to_pylist() == [None]


def test_in_a_recorded_run_the_row_of_the_slow_stage_stands_out() -> None:
    """The sample's third stage was made 47 % slower; every other cell is near the median."""
    run = open_run(SAMPLES / "pp4-1f1b-slow-stage")
    found = work_by_step(run, run.steps[1:])
    for row in found.table.to_pylist():
        assert (row["excess"] > 0.3) == (row["rank"] == 2)
        assert row["rank"] == 2 or abs(row["excess"]) < 0.1
