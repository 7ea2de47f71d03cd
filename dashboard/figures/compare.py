"""Figures of the Compare page: what changed by category, and both runs' steps side by side."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from dashboard.analysis.accounting import CATEGORIES, Accounting
from dashboard.analysis.compare import STEP_TIME, Comparison
from dashboard.analysis.summary import step_times as summed_up
from dashboard.figures.base import (
    bars_axis,
    empty,
    figure,
    legend_above,
    line_mode,
    rows_height,
    steps_axis,
)
from dashboard.figures.theme import (
    CATEGORIES as COLOURS,
)
from dashboard.figures.theme import (
    CATEGORY_LABELS,
    KINDS,
    REFERENCE,
    RUNS,
    SURFACES,
    Theme,
)
from dashboard.figures.units import time_unit

_NO_STEPS: Final = "One of the runs has no complete step."
_FAINT: Final = 0.35
"""Opacity of differences within chance, all of them taken together."""

_ROOM: Final = 3
_PAIR_PX: Final = 260
_NS_PER_MS: Final = 1e6


def differences(comparison: Comparison, theme: Theme = "light") -> go.Figure:
    """B − A in ms per step by category, with 95 % intervals; faint where within chance."""
    title = f"{comparison.a} → {comparison.b}: what changed"
    rows = _used(comparison)
    if not rows:
        return empty(title, _NO_STEPS, theme)
    unit = time_unit(row["delta_ms"] * _NS_PER_MS for row in rows)
    per = unit.size / _NS_PER_MS
    deltas = [row["delta_ms"] / per for row in rows]
    made = figure(title, theme, height=rows_height(len(rows)), bargap=0.35, showlegend=False)
    made.add_bar(
        orientation="h",
        y=[_label(row["category"]) for row in rows],
        x=deltas,
        marker={
            "color": [_colour(row["category"], theme) for row in rows],
            "opacity": [1.0 if comparison.significant(row["category"]) else _FAINT for row in rows],
            "line": {"width": 0},
        },
        error_x=_error(rows, per, theme),
        customdata=[[row["a_ms"], row["b_ms"], *_interval(row)] for row in rows],
        hovertemplate=(
            f"<b>%{{y}}</b><br>%{{x:+,.3f}} {unit.label} per step<br>"
            "95 % interval %{customdata[2]} to %{customdata[3]} ms<br>"
            "%{customdata[0]:,.2f} ms → %{customdata[1]:,.2f} ms<extra></extra>"
        ),
    )
    made.update_xaxes(
        title_text=f"B − A, {unit.label} per step (mean over ranks and steps)",
        zeroline=True,
        zerolinecolor=SURFACES["muted"].on(theme),
    )
    bars_axis(made, len(rows), room=_ROOM)
    return made


def mean_steps(comparison: Comparison, theme: Theme = "light") -> go.Figure:
    """The mean step of A and of B, by category."""
    title = "Time per step, A and B"
    rows = _used(comparison)
    if not rows:
        return empty(title, _NO_STEPS, theme)
    unit = time_unit(row[run] * _NS_PER_MS for row in rows for run in ("a_ms", "b_ms"))
    per = unit.size / _NS_PER_MS
    made = figure(title, theme, height=_PAIR_PX, barmode="stack", bargap=0.35)
    for row in rows:
        category = row["category"]
        if category == STEP_TIME:
            continue
        made.add_bar(
            orientation="h",
            name=_label(category),
            y=[f"A  {comparison.a}", f"B  {comparison.b}"],
            x=[row["a_ms"] / per, row["b_ms"] / per],
            marker={"color": _colour(category, theme), "line": {"width": 0}},
            hovertemplate=f"<b>{_label(category)}</b><br>%{{y}}: %{{x:,.2f}} {unit.label} per step"
            "<extra></extra>",
        )
    made.update_xaxes(title_text=f"{unit.label} per step (mean over ranks and steps)")
    bars_axis(made, 2, room=_ROOM)
    made.update_layout(legend=legend_above(traceorder="normal"))
    return made


def step_times(
    a: Accounting, b: Accounting, names: tuple[str, str], theme: Theme = "light"
) -> go.Figure:
    """Step time over the steps of both runs, the median over ranks."""
    title = "Step time, A and B"
    times = [summed_up(accounting) for accounting in (a, b)]
    if any(table.num_rows == 0 for table in times):
        return empty(title, _NO_STEPS, theme)
    unit = time_unit(ns for table in times for ns in table["median_ns"].to_pylist())
    made = figure(title, theme, height=_PAIR_PX, legend=legend_above())
    for letter, name, table, colour in zip("AB", names, times, RUNS, strict=True):
        made.add_scatter(
            x=table["step"].to_pylist(),
            y=unit.of(table["median_ns"].to_pylist()),
            name=f"{letter}  {name}",
            mode=line_mode(table["step"].to_pylist()),
            line={"color": colour.on(theme), "width": 2},
            marker={"size": 6, "symbol": "circle" if letter == "A" else "square"},
            hovertemplate=f"<b>{letter}, step %{{x}}</b><br>%{{y:,.2f}} {unit.label}"
            "<extra></extra>",
        )
    steps_axis(made, [step for table in times for step in table["step"].to_pylist()])
    made.update_yaxes(title_text=f"step time, {unit.label}", rangemode="tozero")
    return made


def _used(comparison: Comparison) -> list[dict[str, Any]]:
    """The step time, and the categories that either run spent time in."""
    order = {name: i for i, name in enumerate((STEP_TIME, *CATEGORIES))}
    rows = [row for row in comparison.categories.to_pylist() if row["delta_ms"] is not None]
    rows = [r for r in rows if r["a_ms"] or r["b_ms"] or r["category"] == STEP_TIME]
    return sorted(rows, key=lambda row: order[row["category"]])


def _error(rows: list[dict[str, Any]], per: float, theme: Theme) -> dict[str, Any]:
    known = [row for row in rows if row["low_ms"] is not None]
    return {
        "type": "data",
        "symmetric": False,
        "visible": bool(known),
        "array": [(row["high_ms"] - row["delta_ms"]) / per for row in known],
        "arrayminus": [(row["delta_ms"] - row["low_ms"]) / per for row in known],
        "color": REFERENCE.on(theme),
        "thickness": 1.5,
        "width": 5,
    }


def _interval(row: dict[str, Any]) -> tuple[str, str]:
    if row["low_ms"] is None:
        return "unknown", "unknown"
    return f"{row['low_ms']:+,.2f}", f"{row['high_ms']:+,.2f}"


def _label(category: str) -> str:
    return CATEGORY_LABELS.get(category, category)


def _colour(category: str, theme: Theme) -> str:
    return COLOURS.get(category, KINDS["step"]).on(theme)
