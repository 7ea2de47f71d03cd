"""Figures of the Pipeline page: bubble ratios, parts, a map over steps, who waited for whom."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from dashboard.analysis.pipeline.bubble_summary import PARTS, mean_parts, stalls_by_culprit
from dashboard.analysis.pipeline.bubbles import Bubbles
from dashboard.figures.base import (
    HALF_PX,
    MATRIX_PX,
    bars_axis,
    empty,
    few_steps,
    figure,
    legend_above,
    line_mode,
    rank_names,
    reference_line,
    rows_height,
    scale,
    steps_axis,
)
from dashboard.figures.matrix import matrix
from dashboard.figures.theme import BUBBLES, CATEGORIES, KINDS, REFERENCE, SURFACES, Theme
from dashboard.figures.units import percent_text, time_unit

NO_PIPELINE: Final = "No pipeline stages were recorded in these steps."
_ROOM: Final = 4
_HALF_ROWS_PX: Final = 340
_PART_LABELS: Final = {"warm_up": "warm-up", "stall": "stall", "cool_down": "cool-down"}


def bubble_by_step(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """Bubble / pipeline window over the steps: measured, the plan bound, and theory."""
    title = "Bubble ratio over the steps"
    if bubbles.steps.num_rows == 0:
        return empty(title, NO_PIPELINE, theme)
    groups = list(dict.fromkeys(bubbles.steps["group"].to_pylist()))
    made = figure(title, theme, height=HALF_PX, legend=legend_above())
    for group in groups:
        rows = [row for row in bubbles.steps.to_pylist() if row["group"] == group]
        of_group = f" ({group})" if len(groups) > 1 else ""
        for name, column, style in (
            ("measured", "bubble_fraction_of_window", _measured(rows, theme)),
            ("plan bound", "plan_bound_fraction_of_window", _bound(theme)),
        ):
            made.add_scatter(
                x=[row["step"] for row in rows],
                y=[row[column] for row in rows],
                name=name + of_group,
                hovertemplate=f"<b>step %{{x}}</b><br>{name}{of_group} %{{y:.1%}} of the window"
                "<extra></extra>",
                **style,
            )
    theory = bubbles.theory
    if theory is not None and theory.fraction_of_window is not None:
        share = percent_text(theory.fraction_of_window)
        # Theory is the least of the three nearly always: below its line there is room.
        label, place = f"theory {share}", ("right", "below")
        reference_line(made, theory.fraction_of_window, label, theme, place=place)
    steps_axis(made, bubbles.steps["step"].to_pylist())
    made.update_yaxes(title_text="bubble / pipeline window", tickformat=".0%", rangemode="tozero")
    return made


def bubble_parts(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """One bar per rank: warm-up, stall and cool-down per step, the mean over the steps."""
    title = "Bubble per rank, by part"
    parts = mean_parts(bubbles)
    if parts.num_rows == 0:
        return empty(title, NO_PIPELINE, theme)
    unit = time_unit(parts["bubble_ns"].to_pylist())
    names = rank_names(parts["rank"].to_pylist(), parts["stages"].to_pylist())
    height = max(rows_height(len(names), _HALF_ROWS_PX), HALF_PX)
    made = figure(title, theme, barmode="stack", bargap=0.35, height=height)
    for part in PARTS:
        spent = parts[f"{part}_ns"].to_pylist()
        windows = parts["window_ns"].to_pylist()
        shares = [percent_text(ns / of) for ns, of in zip(spent, windows, strict=True)]
        made.add_bar(
            orientation="h",
            name=_PART_LABELS[part],
            y=names,
            x=unit.of(spent),
            customdata=shares,
            marker={"color": BUBBLES[part].on(theme), "line": {"width": 0}},
            hovertemplate=f"<b>{_PART_LABELS[part]}</b><br>%{{y}}: %{{x:,.2f}} {unit.label} "
            "per step, %{customdata} of the window<extra></extra>",
        )
    for name, ns, fraction in zip(
        names, unit.of(parts["bubble_ns"].to_pylist()), parts["fraction"].to_pylist(), strict=True
    ):
        made.add_annotation(
            x=ns, y=name, text=f" {percent_text(fraction)}", showarrow=False, xanchor="left",
            font={"size": 12, "color": SURFACES["muted"].on(theme)},
        )  # fmt: skip
    made.update_xaxes(title_text=f"bubble, {unit.label} per step (mean)", rangemode="tozero")
    bars_axis(made, len(names), room=_ROOM)
    made.update_layout(legend=legend_above(traceorder="normal"))
    return made


def bubble_heatmap(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """Bubble / pipeline window of each rank (rows) in each step (columns)."""
    title = "Bubble ratio by rank and step"
    if bubbles.ranks.num_rows == 0:
        return empty(title, NO_PIPELINE, theme)
    rows = bubbles.ranks.to_pylist()
    stages = {row["rank"]: row["stages"] for row in rows}
    ranks, steps = sorted(stages), sorted({row["step"] for row in rows})
    found = {(r["rank"], r["step"]): r["bubble_ns"] / (r["window_ns"] or 1) for r in rows}
    made = figure(title, theme, height=max(rows_height(len(ranks), _HALF_ROWS_PX), MATRIX_PX))
    made.add_heatmap(
        x=steps,
        y=rank_names(ranks, [stages[rank] for rank in ranks]),
        z=[[found.get((rank, step)) for step in steps] for rank in ranks],
        zmin=0,
        zmax=max(found.values()) or 1.0,
        colorscale=scale(SURFACES["raised"].on(theme), BUBBLES["stall"].on(theme)),
        colorbar={
            "tickformat": ".0%",
            "tickfont": {"size": 11},
            "thickness": 10,
            "outlinewidth": 0,
            "len": 1.0,
        },
        xgap=1 if few_steps(steps) else 0,
        ygap=2,
        hovertemplate="<b>step %{x}</b><br>%{y}: %{z:.1%} of the window<extra></extra>",
    )
    steps_axis(made, steps)
    made.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    made.update_xaxes(ticks="")
    return made


def stall_culprits(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """Stall per step of each rank (rows) by the rank that it waited for (columns)."""
    title = "Stalls by culprit"
    ranks = sorted(set(bubbles.ranks["rank"].to_pylist()))
    if not ranks:
        return empty(title, NO_PIPELINE, theme)
    rows = stalls_by_culprit(bubbles).to_pylist()
    unit = time_unit(row["stall_ns"] for row in rows)
    cells = {(row["rank"], row["culprit_rank"]): row["stall_ns"] / unit.size for row in rows}
    return matrix(
        title,
        ranks,
        sorted({*ranks, *(row["culprit_rank"] for row in rows)}),
        cells,
        axes=("waiting rank", "rank it waited for"),
        value=f"{unit.label} per step",
        colours=(CATEGORIES["idle"], BUBBLES["stall"]),
        theme=theme,
    )


def _measured(rows: list[dict[str, Any]], theme: Theme) -> dict[str, Any]:
    colour = KINDS["backward"].on(theme)
    return {
        "mode": line_mode([row["step"] for row in rows]),
        "line": {"color": colour, "width": 2},
        "marker": {"size": 7, "color": colour},
    }


def _bound(theme: Theme) -> dict[str, Any]:
    return {"mode": "lines", "line": {"color": REFERENCE.on(theme), "width": 1.5, "dash": "dash"}}
