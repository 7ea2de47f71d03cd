"""The figure of overlap: communication by mesh dimension, how much of it is exposed."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go

from dashboard.analysis.operations import category_of
from dashboard.analysis.time_spent.accounting import Accounting
from dashboard.analysis.whole_run.summary import communication_by_dimension
from dashboard.figures.base import bars_axis, empty, figure, legend_above, rows_height
from dashboard.figures.theme import CATEGORIES, SURFACES, Theme
from dashboard.figures.units import percent_text, time_unit

_PARTS: Final = {"exposed": "", "overlapped": "/"}
"""What a bar is made of, with its hatching: hatched is what other work hides."""
_ROOM: Final = 3


def overlap_by_dimension(accounting: Accounting, theme: Theme = "light") -> go.Figure:
    """One bar per dimension: exposed and overlapped per step, the mean over ranks and steps."""
    title = "Exposed and overlapped communication"
    found = communication_by_dimension(accounting)
    if found.num_rows == 0:
        return empty(title, "No communication in these steps.", theme)
    rows = found.to_pylist()
    dims = [row["dim"] for row in rows]
    colours = [CATEGORIES[category_of(dim)].on(theme) for dim in dims]
    unit = time_unit(row["total_ns"] for row in rows)
    made = figure(title, theme, barmode="stack", bargap=0.35, height=rows_height(len(rows)))
    for part, shape in _PARTS.items():
        made.add_bar(
            orientation="h",
            name=part,
            y=dims,
            x=unit.of(row[f"{part}_ns"] for row in rows),
            marker={"color": colours, "line": {"width": 0}, "pattern": {"shape": shape}},
            hovertemplate=f"<b>%{{y}}</b>, {part}: %{{x:,.3~g}} {unit.label} per step"
            "<extra></extra>",
        )
    for row, total in zip(rows, unit.of(row["total_ns"] for row in rows), strict=True):
        made.add_annotation(
            x=total, y=row["dim"], text=f" overlap {percent_text(row['overlap'])}",
            showarrow=False, xanchor="left",
            font={"size": 12, "color": SURFACES["muted"].on(theme)},
        )  # fmt: skip
    made.update_xaxes(
        title_text=f"communication, {unit.label} per step and rank (mean)", rangemode="tozero"
    )
    bars_axis(made, len(dims), room=_ROOM)
    made.update_layout(legend=legend_above(traceorder="normal"))
    return made
