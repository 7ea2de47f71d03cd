"""Figures of the Compare page: from A's step time to B's."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from dashboard.analysis.compare import STEP_TIME, Comparison
from dashboard.figures.base import empty_figure, say_empty
from dashboard.figures.theme import BETTER, CATEGORY_LABELS, RUNS, WORSE, Theme

_NOTHING = "no complete steps to compare"


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The categories that either run spends time in, less the step time."""
    return [
        row
        for row in comparison.categories.to_pylist()
        if row["category"] != STEP_TIME and (row["a_ms"] or row["b_ms"])
    ]


def differences(comparison: Comparison, theme: Theme = "light") -> go.Figure:
    """B minus A by category in ms per step, with 95 % intervals."""
    figure = empty_figure(theme, x="B - A (ms per step)", y="", height=320)
    rows = [r for r in comparison.categories.to_pylist() if r["a_ms"] or r["b_ms"]]
    if not rows:
        return say_empty(figure, theme, _NOTHING)
    known = all(row["low_ms"] is not None for row in rows)
    figure.add_bar(
        x=[row["delta_ms"] for row in rows],
        y=[CATEGORY_LABELS.get(row["category"], row["category"]) for row in rows],
        orientation="h",
        marker={"color": [(WORSE if r["delta_ms"] > 0 else BETTER).on(theme) for r in rows]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [row["high_ms"] - row["delta_ms"] for row in rows],
            "arrayminus": [row["delta_ms"] - row["low_ms"] for row in rows],
            "thickness": 1.5,
        }
        if known
        else None,
        hovertemplate="%{y}: %{x:+.3f} ms<extra></extra>",
        showlegend=False,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(bargap=0.35)
    return figure


def waterfall(comparison: Comparison, theme: Theme = "light") -> go.Figure:
    """From A's mean step time over the differences of the categories to B's, in ms."""
    figure = empty_figure(theme, x="", y="step time (ms)", height=320)
    rows = _rows(comparison)
    total = comparison.categories.to_pylist()[0]
    if not rows or total["a_ms"] is None:
        return say_empty(figure, theme, _NOTHING)
    figure.add_waterfall(
        x=[comparison.a, *(row["category"] for row in rows), comparison.b],
        y=[total["a_ms"], *(row["delta_ms"] for row in rows), total["b_ms"]],
        measure=["absolute", *("relative" for _ in rows), "total"],
        increasing={"marker": {"color": WORSE.on(theme)}},
        decreasing={"marker": {"color": BETTER.on(theme)}},
        totals={"marker": {"color": RUNS[0].on(theme)}},
        connector={"line": {"width": 1}},
        hovertemplate="%{x}: %{y:.3f} ms<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(type="category")
    return figure
