"""Small pieces of HTML that several pages use."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from dash import dcc, html


def dashed(**attributes: str) -> dict[str, Any]:
    """`dashed(aria_label="Pages")` → `{"aria-label": "Pages"}`: attributes with a dash."""
    return {name.replace("_", "-"): value for name, value in attributes.items()}


def notice(text: str) -> html.Div:
    """One sentence in the place of what cannot be shown."""
    return html.Div(text, className="notice", role="alert")


def card(title: str, note: str, *content: Any) -> html.Section:
    """A boxed section: title, one line that says how to read it, content."""
    head: list[Any] = [html.H2(title, className="card-title")]
    if note:
        head.append(html.P(note, className="card-note"))
    return html.Section([*head, *content], className="card")


def graph(name: str, figure: Any) -> dcc.Graph:
    """A figure that can be downloaded; `name` is its id and, with the format, its file's name."""
    return dcc.Graph(
        id=name,
        figure=figure,
        responsive=True,
        style={"height": f"{figure.layout.height}px"},
        config={
            "displaylogo": False,
            "toImageButtonOptions": {"format": "svg", "filename": name},
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        },
    )


def tile(label: str, value: str, note: str = "") -> html.Div:
    """One headline number."""
    return html.Div(
        [
            html.Div(label, className="tile-label"),
            html.Div(value, className="tile-value"),
            html.Div(note, className="tile-note"),
        ],
        className="tile",
    )


def data_table(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1
) -> html.Div:
    """A plain table whose first `words` columns are text, with a link that saves it as CSV."""
    kinds = ["" if index < words else "num" for index in range(len(columns))]
    head = [html.Th(c, className=k) for c, k in zip(columns, kinds, strict=True)]
    body = [
        html.Tr([html.Td(cell, className=k) for cell, k in zip(row, kinds, strict=True)])
        for row in rows
    ]
    table = html.Table([html.Thead(html.Tr(head)), html.Tbody(body)], className="data-table")
    return html.Div(
        [
            html.Div(table, className="table-scroll"),
            html.A(
                "Save as CSV",
                href="data:text/csv;charset=utf-8," + quote(_csv([columns, *rows])),
                download=f"{name}.csv",
                className="csv-link",
            ),
        ]
    )


def view_select(
    label: str, name: str, key: str, options: Sequence[tuple[str, str]], chosen: str
) -> html.Label:
    """A select of (value, text) whose choice becomes `key` of the URL (assets/shell.js)."""
    entries = [html.Option(text, value=value, selected=value == chosen) for value, text in options]
    select = html.Select(entries, id=name, **dashed(data_view_key=key))
    return html.Label([html.Span(label), select], className="chooser")


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
