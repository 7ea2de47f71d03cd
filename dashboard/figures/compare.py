"""Figures of the Compare page: what changed by category, and both runs' steps side by side."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import plotly.graph_objects as go

from dashboard.analysis.comparing.compare import STEP_TIME, Comparison
from dashboard.analysis.comparing.trend import Trend
from dashboard.analysis.time_spent.accounting import Accounting
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.whole_run.summary import step_times as summed_up
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
    BETTER,
    CATEGORY_LABELS,
    KINDS,
    REFERENCE,
    RUNS,
    SURFACES,
    WORSE,
    Theme,
)
from dashboard.figures.theme import (
    CATEGORIES as COLOURS,
)
from dashboard.figures.units import time_unit

_NO_STEPS: Final = "One of the runs has no complete step."
_FAINT: Final = 0.35
"""Opacity of differences within chance, all of them taken together."""

_ROOM: Final = 3
_PAIR_PX: Final = 260
_WATERFALL_PX: Final = 320
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


def waterfall(comparison: Comparison, theme: Theme = "light") -> go.Figure:
    """From A's step time to B's, one category after the other, with 95 % intervals."""
    title = f"From {comparison.a} to {comparison.b}"
    rows = _used(comparison)
    if not rows:
        return empty(title, _NO_STEPS, theme)
    total, changes = rows[0], rows[1:]
    unit = time_unit(total[run] * _NS_PER_MS for run in ("a_ms", "b_ms"))
    per = unit.size / _NS_PER_MS
    names = ["A", *(_label(row["category"]) for row in changes), "B"]
    made = figure(title, theme, height=_WATERFALL_PX, showlegend=False)
    made.add_waterfall(
        x=names,
        measure=["absolute", *("relative" for _ in changes), "total"],
        y=[total["a_ms"] / per, *(row["delta_ms"] / per for row in changes), 0],
        increasing={"marker": {"color": WORSE.on(theme)}},
        decreasing={"marker": {"color": BETTER.on(theme)}},
        totals={"marker": {"color": _colour(STEP_TIME, theme)}},
        connector={"line": {"color": SURFACES["muted"].on(theme), "width": 1}},
        hovertemplate=f"<b>%{{x}}</b><br>%{{delta:+,.3f}} {unit.label} per step, to %{{final:,.2f}}"
        f" {unit.label}<extra></extra>",
    )
    tops = accumulate((row["delta_ms"] for row in changes), initial=total["a_ms"])
    made.add_scatter(
        x=names[1:],
        y=[top / per for top in [*list(tops)[1:], total["b_ms"]]],
        mode="markers",
        marker={"size": 1, "color": REFERENCE.on(theme)},
        error_y=_error([*changes, total], per, theme),
        hoverinfo="skip",
    )
    broken = [name.replace(" ", "<br>") for name in names]
    made.update_xaxes(showgrid=False, tickvals=names, ticktext=broken, tickangle=0)
    made.update_yaxes(title_text=f"{unit.label} per step", rangemode="tozero")
    return made


def trend_of(found: Trend, theme: Theme = "light") -> go.Figure:
    """The step time of each run, in the order given, with 95 % intervals."""
    title = "Step time, run by run"
    rows = [row for row in found.table.to_pylist() if row["step_ms"] is not None]
    if not rows:
        return empty(title, "None of the runs has a complete step.", theme)
    unit = time_unit(row["step_ms"] * _NS_PER_MS for row in rows)
    per = unit.size / _NS_PER_MS
    known = [
        row | {"delta_ms": row["step_ms"]} if row["low_ms"] is not None else _without_width(row)
        for row in rows
    ]
    made = figure(title, theme, height=_WATERFALL_PX, showlegend=False)
    made.add_scatter(
        x=list(range(1, len(rows) + 1)),
        y=[row["step_ms"] / per for row in rows],
        mode="lines+markers",
        line={"color": _colour(STEP_TIME, theme), "width": 2},
        marker={"size": 8, "symbol": [_beyond(row) for row in rows]},
        error_y=_error(known, per, theme),
        customdata=[[row["run"], row["steps"]] for row in rows],
        hovertemplate=f"<b>%{{customdata[0]}}</b><br>%{{y:,.2f}} {unit.label}, "
        "%{customdata[1]} steps<extra></extra>",
    )
    made.update_xaxes(
        title_text="run",
        tickmode="array",
        tickvals=list(range(1, len(rows) + 1)),
        ticktext=[row["run"] for row in rows],
        showgrid=False,
    )
    made.update_yaxes(title_text=f"step time, {unit.label}", rangemode="tozero")
    return made


def _without_width(row: dict[str, Any]) -> dict[str, Any]:
    """One step has no interval: its whisker has no length."""
    return row | dict.fromkeys(("delta_ms", "low_ms", "high_ms"), row["step_ms"])


def _beyond(row: dict[str, Any]) -> str:
    return "diamond" if row["significant"] else "circle"


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
