"""The Query page: what SQL gives is shown as it is, whatever its names and values are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dash_ag_grid import AgGrid
from plotly.utils import PlotlyJSONEncoder

from dashboard import Run, open_run
from dashboard.pages import query
from dashboard.pages.state import ViewState
from tests.support.pipeline_toy import write_pipeline

SAMPLE = open_run(Path(__file__).parents[3] / "sample_traces" / "pp2-tp2-1f1b")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(write_pipeline(tmp_path / "run"))


def _grid(run: Run, sql: str) -> AgGrid:
    page = query.layout([run], ViewState(sql=sql))
    return next(part for part in page._traverse() if isinstance(part, AgGrid))


def _text(run: Run, sql: str) -> str:
    return json.dumps(query.layout([run], ViewState(sql=sql)), cls=PlotlyJSONEncoder)


@pytest.mark.parametrize("example", query._EXAMPLES, ids=lambda example: example.title)
def test_every_example_has_rows(example: Any) -> None:
    assert _grid(SAMPLE, example.sql).rowData


def test_columns_of_one_name_and_dotted_names_stay_apart(run: Run) -> None:
    grid = _grid(run, 'select 1 as "a.b", 2 as "a.b", \'x\' as t')
    assert [column["headerName"] for column in grid.columnDefs][:1] == ["a.b"]
    assert grid.rowData == [{"c0": 1, "c1": 2, "c2": "x"}]


def test_what_the_browser_would_round_is_sent_as_text(run: Run) -> None:
    (row,) = _grid(
        run, "select 9007199254740993, 'nan'::double, null, true, [1, 2], 1.5::double"
    ).rowData
    assert list(row.values()) == ["9007199254740993", "nan", None, "True", "[1, 2]", 1.5]


def test_more_rows_than_fit_are_cut_and_it_is_said(run: Run) -> None:
    sql = "select range from range(6000)"
    assert len(_grid(run, sql).rowData) == 5000
    assert "The first 5,000 rows; there are more" in _text(run, sql)


def test_what_is_not_allowed_says_why_and_keeps_what_was_written(run: Run) -> None:
    page = _text(run, "copy (select 1) to '/tmp/x'")
    assert "a query is one SELECT statement" in page
    assert "copy (select 1) to '/tmp/x'" in page


def test_nothing_asked_says_how_to_begin(run: Run) -> None:
    assert "begin with one of the examples" in _text(run, " ")
