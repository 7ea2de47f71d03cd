"""The figure of one step of two runs, above each other on one time axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import plotly.graph_objects as go

from dashboard.analysis.comparing.side_by_side import StepCourse
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.figures.base import empty, figure, legend_above
from dashboard.figures.theme import CATEGORIES as COLOURS
from dashboard.figures.theme import CATEGORY_LABELS, SURFACES, Theme
from dashboard.figures.units import Unit, time_unit

_ROW_PX: Final = 24
_MOST_PX: Final = 640
_FRAME_PX: Final = 110
_NOTE_ROWS: Final = 1
"""Room below the legend for what is written above the first row; the second run has its gap."""
_BOX: Final = 0.86
"""Height of a box, of its row's."""


def steps_side_by_side(
    a: StepCourse, b: StepCourse, names: tuple[str, str], theme: Theme = "light"
) -> go.Figure:
    """Each rank's time by category, A above and B below; both zoom together, having one axis."""
    title = f"Step {a.step} of {names[0]} and step {b.step} of {names[1]}"
    if not a.table.num_rows and not b.table.num_rows:
        return empty(title, "In these steps nothing but idle time was recorded.", theme)
    courses = dict(zip("AB", (a, b), strict=True))
    unit = time_unit(found.end - found.begin for found in courses.values())
    lanes = {key: row for row, key in enumerate(_lanes(courses))}
    made = figure(title, theme, barmode="overlay", legend=legend_above(traceorder="normal"))
    for category in CATEGORIES:
        boxes = [
            (name, row)
            for name, found in courses.items()
            for row in found.table.to_pylist()
            if row["category"] == category
        ]
        if boxes:
            made.add_trace(_boxes(category, boxes, lanes, unit, theme))
    shown = {key: row for key, row in lanes.items() if key is not None}
    longest = max(found.end - found.begin for found in courses.values()) / unit.size
    made.update_yaxes(
        tickvals=list(shown.values()),
        ticktext=[f"{name} · rank {rank}" for name, rank in shown],
        range=[max(shown.values()) + 0.6, -0.6 - _NOTE_ROWS],
        fixedrange=True,
        showgrid=False,
        zeroline=False,
    )
    made.update_xaxes(title_text=f"time in the step, {unit.label}", range=[0, longest * 1.005])
    made.update_layout(height=_FRAME_PX + min(_ROW_PX * (len(lanes) + _NOTE_ROWS), _MOST_PX))
    for name, found in courses.items():
        rows = [row for (of, _), row in shown.items() if of == name]
        end = (found.end - found.begin) / unit.size
        said = f"{name}, all ranks: {end:,.1f} {unit.label}"
        _mark(made, said, end, rows, theme, side="left" if end < longest / 4 else "right")
    return made


def _lanes(courses: Mapping[str, StepCourse]) -> Iterator[tuple[str, int] | None]:
    """The rows from top to bottom; None is the gap between the runs."""
    yield from (("A", rank) for rank in courses["A"].ranks)
    yield None
    yield from (("B", rank) for rank in courses["B"].ranks)


def _boxes(
    category: str,
    boxes: list[tuple[str, dict[str, Any]]],
    lanes: Mapping[tuple[str, int] | None, int],
    unit: Unit,
    theme: Theme,
) -> go.Bar:
    return go.Bar(
        orientation="h",
        name=CATEGORY_LABELS[category],
        y=[lanes[name, row["rank"]] for name, row in boxes],
        base=[row["start"] / unit.size for _, row in boxes],
        x=[row["duration"] / unit.size for _, row in boxes],
        width=_BOX,
        customdata=[[name, row["rank"], row["duration"] / unit.size] for name, row in boxes],
        marker={"color": COLOURS[category].on(theme), "line": {"width": 0}},
        hovertemplate=(
            f"<b>{CATEGORY_LABELS[category]}</b><br>%{{customdata[0]}}, rank %{{customdata[1]}}<br>"
            f"%{{customdata[2]:,.3~g}} {unit.label}, from %{{base:,.3~g}} {unit.label}"
            "<extra></extra>"
        ),
    )


def _mark(
    made: go.Figure, said: str, end: float, rows: list[int], theme: Theme, *, side: str
) -> None:
    """A line at the end of the step, and how long it took; it is at that side of the words."""
    colour = SURFACES["muted"].on(theme)
    line = {"color": colour, "width": 1.5, "dash": "dot"}
    made.add_shape(type="line", x0=end, x1=end, y0=min(rows) - 0.5, y1=max(rows) + 0.5, line=line)
    made.add_annotation(
        x=end, y=min(rows) - 0.5, text=said, showarrow=False, xanchor=side, yanchor="bottom",
        font={"size": 11, "color": colour},
    )  # fmt: skip
