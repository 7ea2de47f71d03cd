"""Figures of the Overview: step times, and where each rank's time went."""

from __future__ import annotations

from collections import defaultdict

import plotly.graph_objects as go

from dashboard.analysis.accounting import CATEGORIES, Accounting
from dashboard.figures.base import empty_figure, say_empty
from dashboard.figures.theme import CATEGORY_LABELS, KINDS, Theme, category_colours

_ROW_PIXELS = 34


def step_times(accounting: Accounting, theme: Theme = "light") -> go.Figure:
    """Step time over the run: the slowest and the fastest rank, and the mean, in ms."""
    figure = empty_figure(theme, x="step", y="step time (ms)", height=240)
    durations: dict[int, list[float]] = defaultdict(list)
    for row in accounting.windows.to_pylist():
        durations[row["step"]].append(row["duration"] / 1e6)
    if not durations:
        return say_empty(figure, theme, "no complete step")
    steps = sorted(durations)
    colour = KINDS["backward"].on(theme)
    low = [min(durations[step]) for step in steps]
    high = [max(durations[step]) for step in steps]
    mean = [sum(durations[step]) / len(durations[step]) for step in steps]
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(x=steps, y=high, **edge)
    figure.add_scatter(
        x=steps,
        y=low,
        fill="tonexty",
        fillcolor=_faint(colour),
        name="slowest to fastest rank",
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=steps,
        y=mean,
        mode="lines+markers",
        name="mean of the ranks",
        line={"color": colour, "width": 2},
        hovertemplate="step %{x}: %{y:.2f} ms<extra></extra>",
    )
    figure.update_yaxes(rangemode="tozero")
    return figure


def accounting_bars(accounting: Accounting, theme: Theme = "light") -> go.Figure:
    """One bar per rank: ms per step in each category, and its share on hover."""
    totals: dict[str, dict[int, float]] = {category: defaultdict(float) for category in CATEGORIES}
    windows: dict[int, float] = defaultdict(float)
    counts: dict[int, int] = defaultdict(int)
    for row in accounting.windows.to_pylist():
        windows[row["rank"]] += row["duration"] / 1e6
        counts[row["rank"]] += 1
    for row in accounting.table.to_pylist():
        totals[row["category"]][row["rank"]] += row["duration"] / 1e6
    ranks = sorted(windows)
    height = 110 + _ROW_PIXELS * len(ranks)
    figure = empty_figure(theme, x="time per step (ms)", y="", height=height)
    if not ranks:
        return say_empty(figure, theme, "no complete step")
    colours = category_colours(theme)
    for category in CATEGORIES:
        if not any(totals[category].values()):
            continue
        figure.add_bar(
            x=[totals[category][rank] / counts[rank] for rank in ranks],
            y=[f"rank {rank}" for rank in ranks],
            orientation="h",
            name=CATEGORY_LABELS[category],
            marker={"color": colours[category], "line": {"width": 0}},
            customdata=[totals[category][rank] / windows[rank] for rank in ranks],
            hovertemplate="%{y}: %{x:.2f} ms, %{customdata:.1%}<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.28)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.22)"
