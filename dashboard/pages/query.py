"""Query: ask the run in SQL, within limits, and take the rows along as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import dash_ag_grid as dag
import pyarrow as pa
from dash import dcc, html

from dashboard.pages.markup import card, csv_link, notice, view_link
from dashboard.pages.state import MAX_SQL_CHARACTERS
from dashboard.sql import VIEWS, query
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.pages.state import ViewState
    from dashboard.run import Run
    from dashboard.sql import QueryResult

TITLE: Final = "Query"
PATH: Final = "/query"

_MOST_ROWS: Final = 5_000
"""About a megabyte in the browser; whoever wants more asks on the command line."""
_LIMIT_S: Final = 15.0
"""Somebody waits for the page; the command line has more patience."""
_EXACT: Final = 1 << 53
"""From here on the browser's numbers skip some: such integers are sent as text."""
_ROW_PX: Final = 30
_MOST_PX: Final = 520
_HEAD_PX: Final = 40


class _Example(NamedTuple):
    title: str
    sql: str


_EXAMPLES: Final = (
    _Example(
        "Time by kind and rank",
        "select rank, kind, count(*) as events, sum(duration) / 1e6 as ms\n"
        "from events\nwhere kind <> 'step'\ngroup by rank, kind\norder by ms desc",
    ),
    _Example(
        "Slowest steps",
        "select step, max(duration) / 1e6 as ms, arg_max(rank, duration) as slowest_rank\n"
        "from steps\ngroup by step\norder by ms desc\nlimit 10",
    ),
    _Example(
        "Where the time goes",
        "select rank, category, avg(duration) / 1e6 as ms_per_step\n"
        "from accounting\ngroup by rank, category\nhaving ms_per_step > 0\norder by rank, 3 desc",
    ),
    _Example(
        "Who comes last",
        'select "group", op, culprit_rank, count(*) as times, avg(skew_ns) / 1e6 as skew_ms\n'
        "from collectives\ngroup by all\norder by times * skew_ms desc",
    ),
    _Example(
        "Forward by stage",
        "select stage, median(duration) / 1e6 as median_ms,\n"
        "       quantile_cont(duration, 0.99) / 1e6 as p99_ms\n"
        "from events\nwhere kind = 'forward'\ngroup by stage\norder by stage",
    ),
)


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The editor, and the rows of the URL's query."""
    run = runs[state.run]
    return html.Div([_editor(state), *_answer(run, state)], className="page-stack")


def _editor(state: ViewState) -> html.Section:
    examples = [_ask(example.title, example.sql, state) for example in _EXAMPLES]
    views = [_ask(name, f"select * from {name} limit 100", state) for name in VIEWS]
    return card(
        "Ask the run in SQL",
        "One SELECT in the dialect of DuckDB. Times are in ns, sizes in bytes; the run is read "
        "only, whole: the field “Steps” does not narrow it.",
        html.Label(
            [
                html.Span("SQL", className="muted"),
                dcc.Textarea(
                    id="query-sql",
                    value=state.sql or _EXAMPLES[0].sql,
                    maxLength=MAX_SQL_CHARACTERS,
                    spellCheck=False,
                    # What is being written outlives a new layout, as a growing run causes it.
                    persistence=True,
                    persistence_type="memory",
                    className="query-sql",
                ),
            ]
        ),
        html.Div(
            [
                html.Button("Run", id="query-run", type="button", className="tool-button"),
                html.Span("Ctrl + Enter", className="muted"),
            ],
            className="query-tools",
        ),
        html.P(["Examples: ", *_separated(examples)], className="query-links"),
        html.P(["Views: ", *_separated(views)], className="query-links"),
    )


def _ask(text: str, sql: str, state: ViewState) -> html.A:
    return view_link(text, PATH, replace(state, sql=sql), title=sql)


def _separated(links: Sequence[html.A]) -> list[Any]:
    return [part for link in links for part in (link, " · ")][:-1]


def _answer(run: Run, state: ViewState) -> list[Any]:
    if not state.sql.strip():
        said = "Write a query and run it, or begin with one of the examples."
        return [html.Div(said, className="card empty")]
    try:
        result = query(run, state.sql, most_rows=_MOST_ROWS, time_limit_s=_LIMIT_S)
    except UsageError as error:
        return [notice(str(error))]
    return [_rows(result)]


def _rows(result: QueryResult) -> html.Section:
    table = result.table
    columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    said = f"{table.num_rows:,} row{'s' * (table.num_rows != 1)}"
    if result.is_cut:
        said = (
            f"The first {_MOST_ROWS:,} rows; there are more. Add a limit or aggregate, or ask "
            "“rankscope query”, which prints all of them."
        )
    saved = [list(row) for row in zip(*(c.to_pylist() for c in table.columns), strict=True)]
    return card(
        "Rows", said, _grid(table, columns), tools=[csv_link("query", table.column_names, saved)]
    )


def _grid(table: pa.Table, columns: Sequence[Sequence[Any]]) -> html.Div:
    """Columns are named by their number: SQL may give two of them one name, or a dotted one."""
    fields = [f"c{number}" for number in range(len(columns))]
    definitions = [
        {
            "field": field,
            "headerName": name,
            **({"type": "rightAligned"} if _is_number(kind) else {}),
        }
        for field, name, kind in zip(fields, table.column_names, table.schema.types, strict=True)
    ]
    shown = dag.AgGrid(
        id="query-grid",
        columnDefs=definitions,
        rowData=[dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)],
        defaultColDef={"resizable": True, "sortable": True, "minWidth": 70},
        columnSize="autoSize",
        dashGridOptions={
            "rowHeight": _ROW_PX,
            "headerHeight": _HEAD_PX,
            "enableCellTextSelection": True,
            "animateRows": False,
        },
        style={"height": f"{_HEAD_PX + min(_ROW_PX * (table.num_rows + 1), _MOST_PX)}px"},
    )
    return html.Div(shown, className="query-rows")


def _is_number(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(is_a(kind) for is_a in kinds)


def _cell(value: Any) -> Any:
    """What JSON and the browser's numbers hold exactly, else its text."""
    if value is None or isinstance(value, str) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _EXACT:
        return value
    return str(value)
