"""Time against message size, with the line of latency and bandwidth through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from dashboard.analysis.communication.latency_bandwidth import Line
from dashboard.analysis.communication.links import Links
from dashboard.analysis.operations import category_of
from dashboard.figures.base import empty, figure, legend_above, log_ticks
from dashboard.figures.theme import CATEGORIES, Theme
from dashboard.figures.units import Unit, byte_text, rate_text, time_text, time_unit

MOST_LINES: Final = 12
"""Groups and operations that are drawn, those with most operations: more cannot be told apart."""
_SYMBOLS: Final = ("circle", "square", "diamond", "cross", "triangle-up", "triangle-down", "star")
_DRAWN: Final = 64
"""Points of a line, which is bent on logarithmic axes."""
_HEIGHT_PX: Final = 380


def time_by_size(links: Links, theme: Theme = "light") -> go.Figure:
    """Skew-free time by size: filled in the run, hollow as calibrated; medians, 10 to 90 %.

    Lines are alpha + S x factor / beta; dashed as calibrated. Of a calibration, the operations that
    the run has are drawn.
    """
    title = "Time by size, free of arrival skew"
    rows = links.times.to_pylist()
    if not rows:
        return empty(title, "No operation whose end a rank waited for in these steps.", theme)
    used = [(line.group, line.op) for line in sorted(links.lines, key=lambda line: -line.count)]
    unit = time_unit(row["ns"] for row in rows)
    made = figure(title, theme, height=_HEIGHT_PX, legend=legend_above())
    for (group, op), symbol in zip(used[:MOST_LINES], cycle(_SYMBOLS), strict=False):
        sources = (
            (rows, links.lines, "", "solid"),
            (links.calibrated_times.to_pylist(), links.calibrated, "-open", "dash"),
        )
        for points, lines, hollow, dash in sources:
            mine = [row for row in points if (row["group"], row["op"]) == (group, op)]
            line = next((ln for ln in lines if (ln.group, ln.op) == (group, op)), None)
            if mine and line is not None:
                _add(made, mine, line, symbol + hollow, dash, unit, theme)
    shown = [trace for trace in made.data if trace.mode == "markers"]
    made.update_xaxes(
        title_text="message size, bytes",
        type="log",
        tickformat=".2~s",
        ticksuffix="B",
        dtick=log_ticks(size for trace in shown for size in trace.x),
    )
    made.update_yaxes(
        title_text=f"time, {unit.label}",
        type="log",
        tickformat=".2~r",
        dtick=log_ticks(time for trace in shown for time in _reached(trace)),
    )
    return made


def _reached(trace: go.Scatter) -> Iterator[float]:
    """The ends of the whiskers, which the axis shows too."""
    bars = trace.error_y
    for middle, up, down in zip(trace.y, bars.array, bars.arrayminus, strict=True):
        yield from (middle - down, middle + up)


def _add(
    made: go.Figure,
    rows: Sequence[dict[str, Any]],
    line: Line,
    symbol: str,
    dash: str,
    unit: Unit,
    theme: Theme,
) -> None:
    colour = CATEGORIES[category_of(line.dim)].on(theme)
    name = f"{line.group} {line.op}" + (", calibrated" if dash == "dash" else "")
    times = [row["ns"] / unit.size for row in rows]
    made.add_scatter(
        x=[row["bytes"] for row in rows],
        y=times,
        name=name,
        mode="markers",
        legendgroup=name,
        marker={"color": colour, "symbol": symbol, "size": 9},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [(row["ns_high"] - row["ns"]) / unit.size for row in rows],
            "arrayminus": [(row["ns"] - row["ns_low"]) / unit.size for row in rows],
            "thickness": 1,
            "width": 0,
            "color": colour,
        },
        customdata=[[row["count"], byte_text(row["bytes"])] for row in rows],
        hovertemplate=(
            f"<b>{name}</b>, %{{customdata[1]}}<br>%{{y:,.3~g}} {unit.label} "
            "(median of %{customdata[0]:,})<extra></extra>"
        ),
    )
    if line.alpha_ns is None:
        return
    sizes = np.geomspace(line.low_bytes, line.high_bytes, _DRAWN)
    made.add_scatter(
        x=sizes.tolist(),
        y=[(line.predict_ns(size) or 0) / unit.size for size in sizes],
        name=f"{name}, line",
        mode="lines",
        legendgroup=name,
        showlegend=False,
        line={"color": colour, "width": 1.5, "dash": dash},
        hovertemplate=(
            f"<b>{name}</b><br>α {time_text(line.alpha_ns)}, β {rate_text(line.beta_gbps)}"
            "<extra></extra>"
        ),
    )
