"""One step of two runs side by side: the course on paper, in sum, and which step stands where."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.comparing import side_by_side as module
from dashboard.analysis.comparing.side_by_side import step_beside, step_course
from dashboard.analysis.time_spent.accounting import course
from dashboard.figures.side_by_side import steps_side_by_side
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run

SAMPLES = Path(__file__).parents[4] / "sample_traces"


def test_the_course_of_a_rank_on_paper(tmp_path: Path) -> None:
    """Rank 2 waits 0-22, works 22-82 in one piece, and its optimizer 82-84; then it is idle."""
    run = open_run(write_pipeline(tmp_path / "run", steps=2))
    rows = [
        (row["category"], row["start"] // 1000, row["duration"] // 1000)
        for row in course(run, 1, [2]).to_pylist()
    ]
    assert rows == [("compute", 22, 60), ("optimizer", 82, 2), ("comm:pp", 0, 22)]


def test_in_a_recorded_run_the_course_adds_up_to_the_accounting() -> None:
    run = open_run(SAMPLES / "pp2-tp2-1f1b")
    spent: Counter[tuple[int, str]] = Counter()
    for row in course(run, 3, run.ranks).to_pylist():
        spent[row["rank"], row["category"]] += row["duration"]
    accounted = {
        (row["rank"], row["category"]): row["duration"]
        for row in run.accounting([3]).table.to_pylist()
        if row["category"] != "idle" and row["duration"]
    }
    assert spent == accounted


def test_of_too_many_stretches_the_longest_are_drawn_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper pipeline has 5, 6 and 3 stretches on its ranks; of 14 the shortest three take 2."""
    run = open_run(write_pipeline(tmp_path / "run"))
    whole = step_course(run, 0)
    assert (whole.begin, whole.end, whole.left_out) == (0, 130_000, 0)
    monkeypatch.setattr(module, "MOST_BOXES", whole.table.num_rows - 3)
    found = step_course(run, 0)
    assert (found.left_out, found.left_out_ns) == (3, 2000)
    assert set(found.table["category"].to_pylist()) == {"compute", "comm:pp"}


def test_the_same_step_stands_beside_else_the_one_in_its_place() -> None:
    assert step_beside([1, 2, 3], [2, 3, 4], 3) == 3
    assert step_beside([10, 11, 12], [0, 1, 2], 11) == 1
    assert step_beside([10, 11, 12], [0, 1], 12) == 1


def test_both_runs_share_one_axis(tmp_path: Path) -> None:
    a = open_run(write_pipeline(tmp_path / "a"))
    b = open_run(SAMPLES / "pp4-gpipe")
    made = steps_side_by_side(step_course(a, 0), step_course(b, 3), ("a", "b"), "dark")
    assert list(made.layout.yaxis.ticktext) == [
        *(f"A · rank {rank}" for rank in range(3)),
        *(f"B · rank {rank}" for rank in range(4)),
    ]
    assert list(made.layout.yaxis.tickvals) == [0, 1, 2, 4, 5, 6, 7]
    note = made.layout.annotations[0]
    assert note.y - made.layout.yaxis.range[1] >= 1, "its own row, below the legend"
    assert made.layout.xaxis.title.text == "time in the step, ms"
    boxes = {trace.name: trace for trace in made.data}
    optimizer = boxes["optimizer"]
    place = list(optimizer.y).index(2)  # A, rank 2: 82-84 µs
    assert (optimizer.base[place], optimizer.x[place]) == pytest.approx((0.082, 0.002))


def test_nothing_but_idle_time_is_said(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=9, kind="step")]}))
    made = steps_side_by_side(step_course(run, 0), step_course(run, 0), ("a", "a"))
    assert not made.data
    assert "nothing but idle" in made.layout.annotations[0].text
