"""The log–log plot of benchmarks.scale, drawn by plotly in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import click
import plotly.graph_objects as go
from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from benchmarks._chromium import NAMES as CHROMIUM_NAMES

_WIDTH, _HEIGHT = 1100, 800
_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's, which colour-blind people tell apart."""
_SYMBOLS: Final = ("circle", "square", "diamond", "cross", "x", "triangle-up")


@dataclass(kw_only=True, slots=True, frozen=True)
class Series:
    """One task by events or by ranks: its sizes, seconds and peak memory."""

    by: str
    task: str
    label: str
    sizes: list[int]
    seconds: list[float]
    mb: list[float]


def write_plot(path: Path, series: Iterable[Series]) -> None:
    """Draw times above memory, by events and by ranks, into an SVG file."""
    figure: Any = make_subplots(
        rows=2,
        cols=2,
        vertical_spacing=0.1,
        subplot_titles=[f"{what} by {by}" for what in ("time", "memory") for by in _BY],
    )
    tasks: dict[str, int] = {}
    named: set[str] = set()
    for one in series:
        number = tasks.setdefault(one.task, len(tasks))
        column = _BY.index(one.by) + 1
        look = {
            "mode": "lines+markers",
            "line": {"color": _COLOURS[number]},
            "marker": {"symbol": _SYMBOLS[number]},
        }
        for row, values in ((1, one.seconds), (2, one.mb)):
            figure.add_trace(
                go.Scatter(
                    x=one.sizes,
                    y=values,
                    name=one.label,
                    legendgroup=one.task,
                    showlegend=row == 1 and one.task not in named,
                    **look,
                ),
                row=row,
                col=column,
            )
        named.add(one.task)
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", dtick=1, row=1)
    figure.update_yaxes(type="log", row=2)
    for column, by in enumerate(_BY, 1):
        figure.update_xaxes(title=by, row=2, col=column)
    figure.update_yaxes(title="s", row=1, col=1)
    figure.update_yaxes(title="MB resident at most", row=2, col=1)
    figure.update_layout(
        template="plotly_white",
        width=_WIDTH,
        height=_HEIGHT,
        legend={"x": 0, "y": -0.1, "orientation": "h", "yanchor": "top", "entrywidth": 320},
    )
    path.write_text(_drawn(figure), encoding="utf-8")


_BY: Final = ["events", "ranks"]


def _drawn(figure: Any) -> str:
    found = (shutil.which(name) for name in CHROMIUM_NAMES)
    executable = next((path for path in found if path), None)
    if executable is None:
        raise click.ClickException("no Chromium to draw with; `make browser` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        page = browser.new_page()
        page.set_content("<div id=figure></div>")
        page.add_script_tag(content=get_plotlyjs())
        size = f"{{format: 'svg', width: {_WIDTH}, height: {_HEIGHT}}}"
        address: str = page.evaluate(
            "figure => Plotly.newPlot('figure', figure.data, figure.layout)"
            f".then(drawn => Plotly.toImage(drawn, {size}))",
            figure.to_plotly_json(),
        )
        browser.close()
    return unquote(address.partition(",")[2])
