"""Figures of the Overview: where each rank's time goes, and how long the steps take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import plotly.graph_objects as go

from dashboard.analysis.comparing.change_points import ChangePoint
from dashboard.analysis.time_spent.accounting import Accounting
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.whole_run.summary import mean_by_rank
from dashboard.analysis.whole_run.summary import step_times as summed_up
from dashboard.figures.base import (
    bars_axis,
    empty,
    figure,
    legend_above,
    line_mode,
    rank_names,
    rows_height,
    steps_axis,
)
from dashboard.figures.theme import (
    BETTER,
    CATEGORY_LABELS,
    KINDS,
    SURFACES,
    WORSE,
    Theme,
)
from dashboard.figures.theme import (
    CATEGORIES as COLOURS,
)
from dashboard.figures.units import percent_text, time_unit

_NO_STEPS: Final = "No step is complete on every rank."
_LEAST_LABEL: Final = 0.06
"""Share of a bar that has room for its percentage."""

_BETWEEN_STEPS: Final = 0.5
_MOST_LABELLED: Final = 24
"""Bars, beyond which they are too slim for text."""


def accounting_bars(accounting: Accounting, theme: Theme = "light") -> go.Figure:
    """One bar per rank: the mean time of a step, by category; all categories add up to the step."""
    title = "Time per step and rank, by category"
    table = mean_by_rank(accounting)
    if table.num_rows == 0:
        return empty(title, _NO_STEPS, theme)
    ranks = sorted(set(table["rank"].to_pylist()))
    found = {(row["rank"], row["category"]): row for row in table.to_pylist()}
    wholes = {rank: sum(found[rank, c]["ns_per_step"] for c in CATEGORIES) for rank in ranks}
    unit = time_unit(wholes.values())
    made = figure(title, theme, barmode="stack", bargap=0.35, height=rows_height(len(ranks)))
    for category in CATEGORIES:
        rows = [found[rank, category] for rank in ranks]
        if not any(row["ns_per_step"] for row in rows):
            continue
        dark_text = category in ("idle", "data", "comm:tp")
        made.add_bar(
            orientation="h",
            name=CATEGORY_LABELS[category],
            y=rank_names(ranks),
            x=unit.of(row["ns_per_step"] for row in rows),
            customdata=[percent_text(row["share"]) for row in rows],
            text=[_label(row["share"]) if len(ranks) <= _MOST_LABELLED else "" for row in rows],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={
                "size": 11,
                "color": SURFACES["on-light-box"].light if dark_text else "#ffffff",
            }
            if category != "idle"
            else {"size": 11, "color": SURFACES["text"].on(theme)},
            marker={"color": COLOURS[category].on(theme), "line": {"width": 0}},
            hovertemplate=(
                f"<b>{CATEGORY_LABELS[category]}</b><br>%{{y}}: %{{x:,.2f}} {unit.label} per step, "
                "%{customdata}<extra></extra>"
            ),
        )
    made.update_xaxes(title_text=f"{unit.label} per step (mean)", rangemode="tozero")
    bars_axis(made, len(ranks))
    made.update_layout(legend=legend_above(traceorder="normal"))
    return made


def step_times(
    accounting: Accounting, theme: Theme = "light", changes: Sequence[ChangePoint] = ()
) -> go.Figure:
    """Step time over the run: the median over ranks, and from the fastest to the slowest rank.

    `changes` are marked at the step from which on they hold.
    """
    title = "Step time over the run"
    times = summed_up(accounting)
    if times.num_rows == 0:
        return empty(title, _NO_STEPS, theme)
    unit = time_unit(times["high_ns"].to_pylist())
    steps = times["step"].to_pylist()
    low, middle, high = (
        unit.of(times[name].to_pylist()) for name in ("low_ns", "median_ns", "high_ns")
    )
    colour = KINDS["backward"].on(theme)
    made = figure(title, theme, height=260, showlegend=False)
    made.add_scatter(x=steps, y=low, mode="lines", line={"width": 0}, hoverinfo="skip")
    made.add_scatter(
        x=steps,
        y=high,
        mode="lines",
        line={"width": 0},
        fill="tonexty",
        fillcolor=_transparent(colour),
        hoverinfo="skip",
    )
    made.add_scatter(
        x=steps,
        y=middle,
        mode=line_mode(steps),
        name="median over ranks",
        line={"color": colour, "width": 2},
        marker={"size": 6},
        customdata=[
            [start, start + round(length), shown_low, shown_high]
            for start, length, shown_low, shown_high in zip(
                times["start"].to_pylist(), times["high_ns"].to_pylist(), low, high, strict=True
            )
        ],
        hovertemplate=(
            f"<b>step %{{x}}</b><br>median over ranks %{{y:,.2f}} {unit.label}<br>"
            f"fastest to slowest rank %{{customdata[2]:,.2f}} to %{{customdata[3]:,.2f}} "
            f"{unit.label}<extra></extra>"
        ),
    )
    steps_axis(made, steps)
    made.update_yaxes(title_text=f"step time, {unit.label}", rangemode="tozero")
    for change in changes:
        _mark(made, change, theme)
    return made


def _mark(made: go.Figure, change: ChangePoint, theme: Theme) -> None:
    """A line before the first step of the new level, and by how much that is another."""
    colour = (WORSE if change.relative > 0 else BETTER).on(theme)
    at = change.step - _BETWEEN_STEPS
    line = {"color": colour, "width": 1.5, "dash": "dash"}
    made.add_shape(type="line", x0=at, x1=at, yref="paper", y0=0, y1=1, line=line)
    said = f"{100 * change.relative:+.1f} %".replace("-", "−")
    made.add_annotation(
        x=at, yref="paper", y=0, text=said, showarrow=False, xanchor="left", yanchor="bottom",
        font={"color": colour, "size": 12},
    )  # fmt: skip


def _label(share: float | None) -> str:
    return f"{100 * share:.0f} %" if share is not None and share >= _LEAST_LABEL else ""


def _transparent(colour: str) -> str:
    """`#0072b2` → `rgba(0,114,178,0.18)`."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
