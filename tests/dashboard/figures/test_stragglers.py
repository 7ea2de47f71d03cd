"""The figures of Stragglers show the cells that were measured, and say why they are empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.communication.waits import waits_by_culprit
from dashboard.analysis.whole_run import work_by_step as module
from dashboard.analysis.whole_run.work_by_step import work_by_step
from dashboard.figures.stragglers import wait_matrix, work_heatmap
from tests.support.straggler_toy import More, Toy
from tests.support.toy import Event, write_run

TOY = Toy(steps=4, more={(2, 1): More(work=50)})


def test_a_cell_has_its_excess_and_the_window_of_its_step(tmp_path: Path) -> None:
    made = work_heatmap(work_by_step(open_run(TOY.write(tmp_path / "run"))), "dark")
    (cells,) = made.data
    assert [list(row) for row in cells.z] == [[0] * 4, [0, 0, 0.5, 0], [0] * 4]
    assert list(cells.customdata[1][2])[:2] == [240_000, 410_000]
    assert (cells.zmin, cells.zmax) == (-0.5, 0.5)


def test_a_column_of_several_steps_shows_the_busiest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STEPS", 2)
    (cells,) = work_heatmap(work_by_step(open_run(TOY.write(tmp_path / "run")))).data
    assert list(cells.x) == [0, 2]
    assert [list(row) for row in cells.z] == [[0, 0], [0, 0.5], [0, 0]]
    assert cells.customdata[1][1][3] == 2


def test_rows_wait_for_columns(tmp_path: Path) -> None:
    made = wait_matrix(waits_by_culprit(open_run(TOY.write(tmp_path / "run"))))
    (cells,) = made.data
    # Ranks 0 and 2 wait 50 µs for rank 1 in one of four steps.
    assert [list(row) for row in cells.z] == [
        [None, 12.5, None],
        [None, None, None],
        [None, 12.5, None],
    ]
    assert "µs per step" in made.layout.xaxis.title.text


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=9, kind="step")]}))
    for made in (work_heatmap(work_by_step(run)), wait_matrix(waits_by_culprit(run))):
        assert not made.data
        assert "In these steps no" in made.layout.annotations[0].text
