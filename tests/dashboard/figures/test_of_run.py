"""`run.figures`: every method draws, and the small timeline shows what was recorded."""

from __future__ import annotations

import inspect
from pathlib import Path

import plotly.graph_objects as go
import pytest

from dashboard import open_run
from dashboard.figures import timeline as small
from dashboard.figures.of_run import Figures
from dashboard.figures.theme import KINDS, TITLE_PX
from tests.support.pipeline_toy import write_pipeline
from tests.test_repo.markdown import ROOT
from tracer.errors import UsageError

SAMPLE = open_run(ROOT / "sample_traces" / "pp2-tp2-1f1b")
NAMES = [name for name in vars(Figures) if not name.startswith("_")]
OTHER = open_run(ROOT / "sample_traces" / "pp4-gpipe")
ARGUMENTS = {
    "timeline": (3,),
    "schedule": (3,),
    "waterfall": (OTHER,),
    "differences": (OTHER,),
    "beside": (OTHER, 3),
    "trend": (OTHER, SAMPLE),
}


@pytest.mark.parametrize("name", NAMES)
def test_each_method_draws_with_room_for_its_title(name: str) -> None:
    method = getattr(SAMPLE.figures, name)
    assert inspect.getdoc(method), "a notebook shows it"
    made = method(*ARGUMENTS.get(name, ()), theme="dark")
    assert isinstance(made, go.Figure)
    assert made.data
    assert made.layout.title.text
    assert made.layout.height > 2 * TITLE_PX


def test_the_timeline_on_paper(tmp_path: Path) -> None:
    """Three ranks of F 10 and B 20; rank 0: F0 at 0, F1 at 10, B0 at 74, B1 at 104."""
    run = open_run(write_pipeline(tmp_path / "run"))
    made = run.figures.timeline(step=0)
    bars = {bar.name: bar for bar in made.data}
    # Each rank has a second row for the messages, which are sent while it works.
    assert list(made.layout.yaxis.ticktext) == ["rank 0", "", "rank 1", "", "rank 2", ""]
    boxes = zip(bars["forward"].y, bars["forward"].base, bars["forward"].x, strict=True)
    assert [box for box in boxes if box[0] == 0] == [(0, 0, 10), (0, 10, 10)]
    assert list(bars["forward"].text) == ["0", "1"] * 3
    assert bars["backward"].marker.color == KINDS["backward"].light
    assert made.layout.xaxis.title.text == "time, µs"
    assert made.layout.xaxis.range == (0, 126)


def test_what_is_not_drawn_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(write_pipeline(tmp_path / "run"))
    # Of 10 actions, 3 optimizers and 24 events of messages the ten actions are the longest but
    # for waits of 20 and more.
    monkeypatch.setattr(small, "MOST_EVENTS", 5)
    made = run.figures.timeline(step=0)
    assert sum(len(bar.x) for bar in made.data) == 5
    assert "events of up to" in made.layout.title.subtitle.text


def test_a_step_that_is_not_there_and_a_run_without_pipeline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no event of step 99 was .*; complete steps: 0 to 15"):
        SAMPLE.figures.timeline(step=99)
    path = ROOT / "sample_traces" / "pp4-gpipe"
    with pytest.raises(UsageError, match="no pipeline"):
        Figures(_without_stages(path)).schedule(1)


def _without_stages(path: Path):  # type: ignore[no-untyped-def]
    run = open_run(path)
    run.tables = {
        rank: table.filter(table["kind"].cast("string").to_numpy(zero_copy_only=False) == "step")
        for rank, table in run.tables.items()
    }
    return run
