"""Figures of Stragglers: who worked more than usual in which step, and who waited for whom."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Any, Final

import plotly.graph_objects as go

from dashboard.analysis.communication.waits import Waits
from dashboard.analysis.whole_run.work_by_step import WorkByStep
from dashboard.figures.base import (
    MATRIX_PX,
    empty,
    few_steps,
    figure,
    rank_names,
    rows_height,
    steps_axis,
)
from dashboard.figures.matrix import matrix
from dashboard.figures.theme import BETTER, BUBBLES, CATEGORIES, SURFACES, WORSE, Theme
from dashboard.figures.units import time_text, time_unit

_LEAST_RANGE: Final = 0.1
"""Excess that has the full colour at least: in a run without stragglers noise stays pale."""
_MOST_PX: Final = 480
_MIDDLE: Final = 0.5


def work_heatmap(found: WorkByStep, theme: Theme = "light") -> go.Figure:
    """Work of each rank (rows) in each step (columns) against the median of all of them."""
    title = "Work by rank and step, against the median"
    rows = [row for row in found.table.to_pylist() if row["excess"] is not None]
    if not rows:
        return empty(title, "In these steps no compute or optimizer work was recorded.", theme)
    ranks, steps = sorted({row["rank"] for row in rows}), list(found.first_steps)
    cells = {(row["rank"], bisect_right(steps, row["step"]) - 1): row for row in rows}
    places = [[cells.get((rank, number)) for number in range(len(steps))] for rank in ranks]
    most = max(_LEAST_RANGE, *(abs(row["excess"]) for row in rows))
    made = figure(title, theme, height=max(rows_height(len(ranks), _MOST_PX), MATRIX_PX))
    made.add_heatmap(
        x=steps,
        y=rank_names(ranks),
        z=[[row and row["excess"] for row in line] for line in places],
        customdata=[[row and _said(row) for row in line] for line in places],
        zmin=-most,
        zmax=most,
        colorscale=[
            [0, BETTER.on(theme)],
            [_MIDDLE, SURFACES["raised"].on(theme)],
            [1, WORSE.on(theme)],
        ],
        colorbar={
            "tickformat": "+.0%",
            "tickfont": {"size": 11},
            "thickness": 10,
            "outlinewidth": 0,
            "len": 1.0,
        },
        xgap=1 if few_steps(steps) else 0,
        ygap=1,
        hoverongaps=False,
        hovertemplate=(
            "<b>step %{customdata[3]}</b><br>%{y} works %{customdata[2]}, %{z:+.1%}<extra></extra>"
        ),
    )
    steps_axis(made, steps)
    made.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    made.update_xaxes(ticks="")
    return made


def _said(row: dict[str, Any]) -> list[Any]:
    """The window, for a click; the work and the step, for hovering."""
    end = row["start"] + row["duration"]
    return [row["start"], end, time_text(row["work_ns"]), row["step"]]


def wait_matrix(found: Waits, theme: Theme = "light") -> go.Figure:
    """Waiting per step of each rank (rows) for each other rank (columns), of all operations."""
    title = "Who waited for whom"
    spent: Counter[tuple[int, int]] = Counter()
    for row in found.table.to_pylist():
        spent[row["rank"], row["culprit_rank"]] += row["wait_ns"]
    if not spent:
        return empty(title, "In these steps no rank waited for another one.", theme)
    unit = time_unit(spent.values())
    ranks = sorted({rank for pair in spent for rank in pair})
    return matrix(
        title,
        ranks,
        ranks,
        {pair: ns / unit.size for pair, ns in spent.items()},
        axes=("waiting rank", "rank it waited for"),
        value=f"{unit.label} per step",
        colours=(CATEGORIES["idle"], BUBBLES["stall"]),
        theme=theme,
    )
