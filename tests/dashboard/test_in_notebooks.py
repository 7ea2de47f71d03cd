"""What a notebook shows of a run and of its answers, and what they turn into."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from dashboard import Run, open_run
from dashboard.analysis.results import Result
from dashboard.analysis.whole_run import run_html
from dashboard.analysis.whole_run.views import VIEWS
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, write_run
from tests.test_repo.markdown import ROOT
from tracer.errors import UsageError

SAMPLES = ROOT / "sample_traces"
SLOW = open_run(SAMPLES / "pp4-1f1b-slow-stage")
BALANCED = open_run(SAMPLES / "pp4-1f1b-balanced")
STEPS = SLOW.steps[2:6]
ANSWERS = {
    "accounting": lambda: SLOW.accounting(STEPS),
    "bubbles": lambda: SLOW.bubbles(STEPS),
    "bandwidth": lambda: SLOW.bandwidth(STEPS),
    "critical_path": lambda: SLOW.critical_path(STEPS),
    "memory": lambda: SLOW.memory(STEPS),
    "what_if": lambda: SLOW.what_if(None, STEPS),
    "stragglers": SLOW.stragglers,
    "compare": lambda: BALANCED.compare(SLOW),
    "sql": lambda: SLOW.sql("select * from steps"),
}


class Page(HTMLParser):
    """Cells of the tables, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS)
def test_every_answer_is_shown_and_turns_into_frames(ask) -> None:  # type: ignore[no-untyped-def]
    answer: Result = ask()
    page = Page(answer._repr_html_())
    tables = answer.tables()
    assert len(page.tables) == len(tables) >= 1
    for shown, table in zip(page.tables, tables.values(), strict=True):
        assert shown[0] == table.column_names
        assert len(shown) == 1 + min(table.num_rows, 12)
    name = next(iter(tables))
    frame, polars = answer.to_pandas(), answer.to_polars(name)
    assert isinstance(frame, pd.DataFrame)
    assert isinstance(polars, pl.DataFrame)
    assert len(frame) == len(polars) == tables[name].num_rows
    assert list(frame.columns) == polars.columns == answer.to_arrow().column_names
    if type(answer).__name__ != "QueryResult":
        assert len(repr(answer)) < 1500
        assert "\n" not in repr(answer)


def test_a_repr_tells_the_size_and_columns_of_tables() -> None:
    said = repr(SLOW.accounting(STEPS))
    assert said.startswith("Accounting(table=<144 rows: rank, step, category, duration>, overlap=<")


def test_what_an_answer_lists_is_a_table() -> None:
    found = SLOW.what_if(None, STEPS)
    rows = found.to_arrow("predictions").to_pylist()
    assert [row["scenario"] for row in rows] == [p.scenario for p in found.predictions]
    assert [row["step_ns"] for row in rows] == [p.step_ns for p in found.predictions]
    assert "<ul>" in SLOW.bubbles(STEPS)._repr_html_(), "the theory, which is nested"


def test_a_run_shows_where_its_time_goes(tmp_path: Path) -> None:
    """130 µs per step: 60 of compute, 2 of the optimizer; waits differ by rank."""
    page = Page(open_run(write_pipeline(tmp_path / "run", steps=3))._repr_html_())
    (table,) = page.tables
    assert table[0] == ["rank", "step", "compute", "optimizer", "comm:pp", "idle"]
    # Waits of rank 0: 20 to 74 and 94 to 104.
    assert table[1] == ["0", "0.13", "0.06", "0.002", "0.064", "0.004"]
    for said in ("steps: 3, 0 to 2", "mesh: pp 3", "Schedule1F1B, 2 microbatches"):
        assert said in page.text


def test_a_run_shows_what_is_wrong_and_no_markup_of_its_names(tmp_path: Path) -> None:
    path = write_run(
        tmp_path / "<script>alert(1)</script>", {0: [Event(start=0, duration=1, kind="user")]},
        world_size=9,
    )  # fmt: skip
    html = open_run(path)._repr_html_()
    assert "<script" not in html
    page = Page(html)
    assert "1 of 9" in page.text
    assert "missing" in page.text


def test_of_a_large_run_nothing_is_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_html, "MANY_EVENTS", SLOW.event_count)
    monkeypatch.setattr(run_html, "mean_step", lambda run: pytest.fail("takes long"))
    assert Page(SLOW._repr_html_()).tables == []


@pytest.mark.parametrize("view", VIEWS)
def test_views_turn_into_frames(view: str) -> None:
    table = SLOW.to_arrow(view)
    assert len(SLOW.to_pandas(view)) == len(SLOW.to_polars(view)) == table.num_rows > 0 or (
        view == "collectives"
    )


def test_events_are_the_default_and_other_words_are_refused() -> None:
    assert SLOW.to_arrow().num_rows == SLOW.event_count
    with pytest.raises(UsageError, match="'event' is not a view; there are: events"):
        SLOW.to_arrow("event")


def test_a_run_exports_itself(tmp_path: Path) -> None:
    out = Run.export(SLOW, "csv", tmp_path / "a.csv", tables=["ranks"])
    assert len(out.read_text().splitlines()) == 5
