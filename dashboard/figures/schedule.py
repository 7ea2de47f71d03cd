"""The schedule of one step as a grid: stages against time, measured above planned or predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import plotly.graph_objects as go
import pyarrow as pa

from dashboard.analysis.pipeline.schedule import StepSchedule
from dashboard.analysis.replay.predicted_step import PredictedStep
from dashboard.figures.base import empty, figure, legend_above
from dashboard.figures.pipeline import NO_PIPELINE
from dashboard.figures.theme import KINDS, SURFACES, Theme
from dashboard.figures.units import Unit, time_unit
from tracer.schema import COMPUTE_KINDS

_LABELS: Final = {
    "forward": "forward",
    "backward": "backward",
    "backward_input": "backward, inputs",
    "backward_weight": "backward, weights",
}
_LIGHT_BOXES: Final = ("forward",)
"""Kinds whose colour is light, so that the number in the box is dark."""

_ROW_PX: Final = 30
_MOST_PX: Final = 620
_BOX: Final = 0.88
"""Height of a box, of its row's."""

_LEAST_BOX: Final = 0.012
"""Share of the window that has room for a microbatch number."""


def schedule_grid(schedule: StepSchedule, theme: Theme = "light") -> go.Figure:
    """Each action as a box with its microbatch: as measured; below as replayed, the same actions,
    none waiting for communication; and as planned, with equally long stages.
    """
    tables = {
        "measured": schedule.measured,
        "without waiting": schedule.replayed,
        "plan, equal stages": schedule.planned,
    }
    return _grid(f"Schedule of step {schedule.step}", tables, theme)


def predicted_grid(found: PredictedStep, theme: Theme = "light") -> go.Figure:
    """Likewise, above as measured and below as predicted."""
    tables = {"measured": found.measured, "predicted": found.predicted}
    return _grid(f"Step {found.step}, measured and predicted", tables, theme)


def _grid(title: str, tables: Mapping[str, pa.Table], theme: Theme) -> go.Figure:
    shown = {name: table for name, table in tables.items() if table.num_rows}
    if not shown:
        return empty(title, NO_PIPELINE, theme)
    unit = time_unit(end for table in shown.values() for end in _ends(table))
    whole = max(end for table in shown.values() for end in _ends(table)) / unit.size
    lanes = _lanes(shown)
    made = figure(title, theme, barmode="overlay")
    for kind in COMPUTE_KINDS:
        boxes = [
            (name, row)
            for name, table in shown.items()
            for row in table.to_pylist()
            if row["kind"] == kind
        ]
        if boxes:
            made.add_trace(_boxes(kind, boxes, lanes, unit, whole, theme))
    names = list(lanes.values())
    made.update_yaxes(
        tickvals=[lane["y"] for lane in names],
        ticktext=[lane["label"] for lane in names],
        range=[max(lane["y"] for lane in names) + 0.6, -0.6],
        showgrid=False,
        zeroline=False,
    )
    made.update_xaxes(
        title_text=f"time in the pipeline window, {unit.label}", range=[0, whole * 1.005]
    )
    made.update_layout(
        height=90 + min(_ROW_PX * (len(names) + len(shown)), _MOST_PX), legend=legend_above()
    )
    for name, table in shown.items():
        _mark(made, name, max(_ends(table)) / unit.size, lanes, unit, theme)
    return made


def _ends(table: pa.Table) -> list[int]:
    starts, durations = table["start"].to_pylist(), table["duration"].to_pylist()
    return [start + duration for start, duration in zip(starts, durations, strict=True)]


def _lanes(shown: dict[str, pa.Table]) -> dict[tuple[str, int], dict[str, Any]]:
    """Where the row of each (variant, rank) is: variants in blocks, one row apart."""
    lanes: dict[tuple[str, int], dict[str, Any]] = {}
    for block, (name, table) in enumerate(shown.items()):
        stages: dict[int, set[int]] = {}
        for row in table.to_pylist():
            stages.setdefault(row["rank"], set()).add(row["stage"])
        for rank in sorted(stages):
            label = "stage " + ",".join(map(str, sorted(stages[rank])))
            lanes[name, rank] = {"y": len(lanes) + block, "label": label, "rank": rank}
    return lanes


def _boxes(
    kind: str,
    boxes: list[tuple[str, dict[str, Any]]],
    lanes: dict[tuple[str, int], dict[str, Any]],
    unit: Unit,
    whole: float,
    theme: Theme,
) -> go.Bar:
    lengths = [row["duration"] / unit.size for _, row in boxes]
    text = "on-light-box" if kind in _LIGHT_BOXES else "on-dark-box"
    return go.Bar(
        orientation="h",
        name=_LABELS[kind],
        y=[lanes[name, row["rank"]]["y"] for name, row in boxes],
        base=[row["start"] / unit.size for _, row in boxes],
        x=lengths,
        width=_BOX,
        customdata=[
            [row["rank"], row["stage"], row["microbatch"], name, length]
            for (name, row), length in zip(boxes, lengths, strict=True)
        ],
        text=[
            str(row["microbatch"]) if length >= _LEAST_BOX * whole else ""
            for (_, row), length in zip(boxes, lengths, strict=True)
        ],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"size": 11, "color": SURFACES[text].on(theme)},
        marker={
            "color": KINDS[kind].on(theme),
            "line": {"width": 1, "color": SURFACES["card"].on(theme)},
        },
        hovertemplate=(
            f"<b>{_LABELS[kind]}, microbatch %{{customdata[2]}}</b><br>"
            "stage %{customdata[1]}, rank %{customdata[0]}, %{customdata[3]}<br>"
            f"%{{customdata[4]:,.2f}} {unit.label}, from %{{base:,.2f}} {unit.label}"
            "<extra></extra>"
        ),
    )


def _mark(
    made: go.Figure,
    name: str,
    end: float,
    lanes: dict[tuple[str, int], dict[str, Any]],
    unit: Unit,
    theme: Theme,
) -> None:
    """A line at the end of the variant's window, and what it is."""
    rows = [lane["y"] for (variant, _), lane in lanes.items() if variant == name]
    colour = SURFACES["muted"].on(theme)
    made.add_shape(
        type="line", x0=end, x1=end, y0=min(rows) - 0.5, y1=max(rows) + 0.5,
        line={"color": colour, "width": 1.5, "dash": "dot"},
    )  # fmt: skip
    made.add_annotation(
        x=end, y=min(rows) - 0.5, text=f"{name}: {end:,.1f} {unit.label}", showarrow=False,
        xanchor="right", yanchor="bottom", font={"size": 11, "color": colour},
    )  # fmt: skip
