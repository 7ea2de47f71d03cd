"""Figures of the Pipeline page: bubbles measured, in theory and as planned, and the schedule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.analysis.actions import Action
from dashboard.analysis.bubbles import Bubbles
from dashboard.figures.base import empty_figure, rank_matrix, say_empty
from dashboard.figures.theme import BUBBLES, KINDS, REFERENCE, SURFACES, Theme, template

_NO_PIPELINE = "no pipeline in this run"
_ROW_PIXELS = 36
_KIND_LABELS = {
    "forward": "forward",
    "backward": "backward",
    "backward_input": "backward (input)",
    "backward_weight": "backward (weight)",
}


def bubble_by_step(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """Bubble as a share of the pipeline window per step: measured, plan bound, theory."""
    figure = empty_figure(theme, x="step", y="bubble (% of pipeline window)", height=280)
    rows = bubbles.steps.to_pylist()
    if not rows:
        return say_empty(figure, theme, _NO_PIPELINE)
    groups = sorted({row["group"] for row in rows})
    for number, group in enumerate(groups):
        mine = [row for row in rows if row["group"] == group]
        steps = [row["step"] for row in mine]
        suffix = f", {group}" if len(groups) > 1 else ""
        dash = ("solid", "dash", "dot", "dashdot")[number % 4]
        for column, name, colour, width in (
            ("bubble_fraction_of_window", "measured", BUBBLES["stall"], 2.5),
            ("plan_bound_fraction_of_window", "plan bound", KINDS["backward"], 1.5),
        ):
            figure.add_scatter(
                x=steps,
                y=[None if row[column] is None else 100 * row[column] for row in mine],
                mode="lines+markers" if name == "measured" else "lines",
                name=name + suffix,
                line={"color": colour.on(theme), "width": width, "dash": dash},
                hovertemplate="step %{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
            )
    theory = bubbles.theory
    if theory is not None and theory.fraction_of_window is not None:
        steps = sorted({row["step"] for row in rows})
        figure.add_scatter(
            x=[steps[0], steps[-1]],
            y=[100 * theory.fraction_of_window] * 2,
            mode="lines",
            name="theory",
            line={"color": REFERENCE.on(theme), "width": 1.5, "dash": "6px,4px"},
            hovertemplate="theory: %{y:.1f} %<extra></extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def bubble_heatmap(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """Bubble of each stage and step as a share of the pipeline window."""
    rows = bubbles.ranks.to_pylist()
    labels = list(dict.fromkeys(_label(row) for row in sorted(rows, key=_stage_order)))
    height = 110 + 30 * len(labels)
    figure = empty_figure(theme, x="step", y="", height=height)
    if not rows:
        return say_empty(figure, theme, _NO_PIPELINE)
    steps = sorted({row["step"] for row in rows})
    share = {
        (_label(row), row["step"]): 100 * row["bubble_ns"] / row["window_ns"]
        for row in rows
        if row["window_ns"]
    }
    figure.add_heatmap(
        x=steps,
        y=labels,
        z=[[share.get((label, step)) for step in steps] for label in labels],
        colorscale=template(theme).layout.colorscale.sequential,
        zmin=0,
        colorbar={"title": {"text": "%"}, "thickness": 12},
        hovertemplate="%{y}, step %{x}: bubble %{z:.1f} % of the window<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def bubble_parts(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """Mean bubble per stage in ms per step: warm-up, stall, cool-down."""
    rows = sorted(bubbles.ranks.to_pylist(), key=_stage_order)
    labels = list(dict.fromkeys(_label(row) for row in rows))
    height = 110 + _ROW_PIXELS * len(labels)
    figure = empty_figure(theme, x="bubble per step (ms)", y="", height=height)
    if not rows:
        return say_empty(figure, theme, _NO_PIPELINE)
    for part, colour in BUBBLES.items():
        spent: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            spent[_label(row)].append(row[f"{part}_ns"] / 1e6)
        figure.add_bar(
            x=[sum(spent[label]) / len(spent[label]) for label in labels],
            y=labels,
            orientation="h",
            name=part.replace("_", "-"),
            marker={"color": colour.on(theme)},
            hovertemplate="%{y}: %{x:.2f} ms<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.28)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def stall_culprits(bubbles: Bubbles, theme: Theme = "light") -> go.Figure:
    """Who waited for whom between actions: mean ms per step, waiting rank by culprit."""
    rows = bubbles.stalls.to_pylist()
    figure = empty_figure(theme, x="culprit rank", y="waiting rank", height=300)
    if not rows:
        return say_empty(figure, theme, "no stalls between actions")
    steps = len({row["step"] for row in bubbles.ranks.to_pylist()})
    total: dict[tuple[int, int], float] = defaultdict(float)
    for row in rows:
        total[row["rank"], row["culprit_rank"]] += row["stall_ns"] / 1e6 / steps
    ranks = sorted(set(bubbles.ranks["rank"].to_pylist()))
    values = [[total.get((waiting, culprit)) for culprit in ranks] for waiting in ranks]
    rank_matrix(
        figure, ranks, values, "rank %{y} waits %{z:.2f} ms per step for rank %{x}", "ms", theme
    )
    return figure


def schedule_grid(actions: Sequence[Action], theme: Theme = "light") -> go.Figure:
    """One step as it ran: a row per rank, a box per action with its microbatch number."""
    ranks = sorted({action.rank for action in actions})
    height = 120 + _ROW_PIXELS * len(ranks)
    figure = empty_figure(theme, x="time in the step's pipeline window (ms)", y="", height=height)
    if not actions:
        return say_empty(figure, theme, _NO_PIPELINE)
    begin = min(action.start for action in actions)
    for kind, label in _KIND_LABELS.items():
        mine = [action for action in actions if action.kind == kind]
        if not mine:
            continue
        dark = kind != "forward"
        figure.add_bar(
            base=[(action.start - begin) / 1e6 for action in mine],
            x=[action.duration / 1e6 for action in mine],
            y=[f"rank {action.rank}" for action in mine],
            orientation="h",
            name=label,
            marker={
                "color": KINDS[kind].on(theme),
                "line": {"width": 1, "color": SURFACES["card"].on(theme)},
            },
            text=[str(action.microbatch) for action in mine],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": SURFACES["on-dark-box" if dark else "on-light-box"].on(theme)},
            constraintext="none",
            customdata=[[action.stage, action.microbatch] for action in mine],
            hovertemplate=(
                "%{y}, stage %{customdata[0]}, microbatch %{customdata[1]}: "
                "%{x:.2f} ms from %{base:.2f} ms<extra>%{fullData.name}</extra>"
            ),
        )
    figure.update_layout(barmode="overlay", bargap=0.3, uniformtext={"mode": "hide", "minsize": 9})
    figure.update_yaxes(
        autorange="reversed", showgrid=False, categoryarray=[f"rank {rank}" for rank in ranks]
    )
    return figure


def _label(row: dict[str, object]) -> str:
    return f"stage {row['stages']} · rank {row['rank']}" if row["stages"] else f"rank {row['rank']}"


def _stage_order(row: dict[str, object]) -> tuple[object, object]:
    first = str(row["stages"]).partition(",")[0]
    return (int(first) if first else 0), row["rank"]
