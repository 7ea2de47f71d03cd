"""Small pieces of HTML that several pages use."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from dash import dcc, html

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from dashboard.pages.state import ViewState
    from dashboard.run import Run

_SCROLL_ROWS: Final = 15
"""As many rows of a table as app.css gives room before it scrolls."""


def dashed(**attributes: str) -> dict[str, Any]:
    """`dashed(aria_label="Pages")` → `{"aria-label": "Pages"}`: attributes with a dash."""
    return {name.replace("_", "-"): value for name, value in attributes.items()}


def notice(text: str) -> html.Div:
    """One sentence in the place of what cannot be shown."""
    return html.Div(text, className="notice", role="alert")


def card(title: str, note: Any, *content: Any, tools: Sequence[Any] = ()) -> html.Section:
    """A boxed section: title with tools beside it, one line that says how to read it, content."""
    head: list[Any] = [
        html.Div(
            [html.H2(title, className="card-title"), html.Div(list(tools), className="card-tools")],
            className="card-head",
        )
    ]
    if note:
        head.append(html.P(note, className="card-note"))
    return html.Section([*head, *content], className="card")


def figure_card(
    name: str, title: str, note: Any, figure: go.Figure, *, tools: Sequence[Any] = ()
) -> html.Section:
    """A card around one figure, which can be saved; `name` is the figure's id and its file name."""
    drawn = html.Figure(
        graph(name, figure),
        # Plotly's script comes later: the place is kept, so that nothing below it jumps.
        style={"minHeight": f"{figure.layout.height}px"},
        **dashed(aria_label=title),
    )
    return card(title, note, drawn, tools=[*tools, *_save_buttons(name, title)])


def table_card(
    name: str,
    title: str,
    note: Any,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    saved: Sequence[Mapping[str, Any]],
    words: int = 1,
    tools: Sequence[Any] = (),
    below: Sequence[Any] = (),
) -> html.Section:
    """A card around one table; `saved` are the rows of its CSV file `name`, with the same keys."""
    table = data_table(columns, rows, words=words, label=title)
    columns = list(saved[0]) if saved else columns
    link = csv_link(name, columns, [[_cell(value) for value in row.values()] for row in saved])
    return card(title, note, html.Div(table, id=f"{name}-table"), *below, tools=[*tools, link])


def graph(name: str, figure: go.Figure) -> dcc.Graph:
    """The figure without its title, which is the card's; drag zooms, a double click resets."""
    figure.update_layout(title=None, margin_t=8)
    return dcc.Graph(
        id=name,
        figure=figure,
        responsive=True,
        style={"height": f"{figure.layout.height}px"},
        config={"displayModeBar": False, "doubleClick": "reset", "showAxisDragHandles": False},
    )


def _cell(value: Any) -> Any:
    """Several values in one cell of a CSV file are parted by semicolons."""
    return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _save_buttons(name: str, title: str) -> list[html.Button]:
    """Save the figure as a picture (assets/save.js)."""
    return [
        html.Button(
            text,
            type="button",
            className="save-button",
            title=f"Save the figure as {text}",
            **dashed(data_save=text.lower(), data_graph=name, data_title=title),
        )
        for text in ("SVG", "PNG")
    ]


def tile(label: str, value: str, note: Any = "", link: str | None = None) -> Any:
    """One headline number; `link` makes the whole tile lead to another page."""
    parts = [
        html.Div(_with_arrow(label) if link else label, className="tile-label"),
        html.Div(value, className="tile-value"),
        html.Div(note, className="tile-note"),
    ]
    if link is None:
        return html.Div(parts, className="tile")
    return html.A(parts, href=link, className="tile tile-link", **dashed(data_inside=""))


def _with_arrow(label: str) -> list[Any]:
    """The label with an arrow that does not stand alone in a line."""
    *words, last = label.split(" ")
    arrow = html.Span([last, html.Span(" →", className="arrow")], className="together")
    return [*(f"{word} " for word in words), arrow]


def view_link(text: Any, path: str, state: ViewState, **attributes: Any) -> html.A:
    """A link to a page in this state of the view, followed without loading the page anew."""
    return html.A(text, href=address(path, state), **dashed(data_inside=""), **attributes)


def address(path: str, state: ViewState) -> str:
    """Path and query of a view."""
    query = state.query()
    return f"{path}?{query}" if query else path


def empty_page(title: str, *said: Any) -> html.Div:
    """In the place of a page that has nothing to show: why, and what to do."""
    return html.Div([html.H2(title), *map(html.P, said)], className="card empty")


def no_steps(run: Run, state: ViewState, path: str) -> html.Div:
    """In the place of the page `path` where there is no step to show."""
    if run.steps:
        chosen = "-".join(map(str, state.steps or ()))
        return empty_page(
            f"No step in the range {chosen}",
            f"This run has steps {run.steps[0]} to {run.steps[-1]}.",
            view_link("Show all steps", path, replace(state, steps=None)),
        )
    others = [
        view_link("The timeline", "/timeline", state),
        " and ",
        view_link("SQL", "/query", state),
        " show its events all the same.",
    ]
    source = run.meta.source
    if source is not None:
        said = f"This run was imported ({source.format}), and no steps were found in it."
        return empty_page("No steps", " ".join([said, *source.lacks]), others)
    said = (
        "No step of this run is complete on every rank. Steps end at t.step(), or with "
        "“python -m tracer” when work begins after an optimizer step."
    )
    return empty_page("No complete step", said, others)


def data_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, words: int = 1, label: str = ""
) -> html.Div:
    """A plain table whose first `words` columns are text and the others numbers."""
    kinds = ["" if index < words else "num" for index in range(len(columns))]
    head = [html.Th(c, className=k, scope="col") for c, k in zip(columns, kinds, strict=True)]
    body = [
        html.Tr([html.Td(cell, className=k) for cell, k in zip(row, kinds, strict=True)])
        for row in rows
    ]
    table = html.Table(
        [html.Thead(html.Tr(head)), html.Tbody(body)],
        className="data-table",
        **dashed(**({"aria_label": label} if label else {})),
    )
    if len(rows) > _SCROLL_ROWS:  # the keys have to reach it
        return html.Div(table, className="table-scroll", tabIndex="0")
    return html.Div(table, className="table-scroll")


def csv_link(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> html.A:
    """A link that saves the rows as `<run>-<name>.csv` (assets/save.js adds the run's name)."""
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return html.A(
        "CSV",
        href="data:text/csv;charset=utf-8," + quote(text.getvalue()),
        download=f"{name}.csv",
        className="save-button",
        title="Save the table as CSV",
        **dashed(data_table=name),
    )


def view_select(
    label: str, name: str, key: str, options: Sequence[tuple[str, str]], chosen: str
) -> html.Label:
    """A select of (value, text) whose choice becomes `key` of the URL (assets/shell.js)."""
    entries = [html.Option(text, value=value, selected=value == chosen) for value, text in options]
    select = html.Select(entries, id=name, **dashed(data_view_key=key))
    return html.Label([html.Span(label), select], className="chooser")
