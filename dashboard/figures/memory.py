"""Figures of memory: each rank's peak and its course, beside the microbatches that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go
import pyarrow.compute as pc

from dashboard.analysis.memory.memory import RESIDENT, Memory
from dashboard.figures.base import (
    FRAME_PX,
    bars_axis,
    empty,
    figure,
    legend_above,
    rank_names,
    rows_height,
)
from dashboard.figures.theme import KINDS, REFERENCE, Theme
from dashboard.figures.units import Unit, byte_unit

_UPPER_PX: Final = 190
_STRIP_PX: Final = 46
_FILLED: Final = 0.8
"""Of a strip's height; the rest parts it from the next one."""
_LINES: Final = ("backward", "optimizer", "send", "forward", "collective", "recv")
"""Kinds whose colours tell ranks apart; dashes do beyond them."""
_DASHES: Final = ("solid", "dot")
_GAP: Final = 0.08
_MARKER_PX: Final = 11
_MARKER_SHARE: Final = 0.7
"""Of a row's height: markers of many ranks would hide each other."""
_MOST_TICKS: Final = 8
"""Microbatches held up to which each number has a tick of its own: there are no halves."""

_NOTHING: Final = "In these steps no memory was sampled and no microbatch held."
_PEAKS_SHARE: Final = 0.58
"""Of the figure's width for memory where it stands beside microbatches."""


def memory_peaks(found: Memory, theme: Theme = "light") -> go.Figure:
    """Per rank peak and mean memory; to the right the most microbatches held, and by the plan."""
    title = "Peak memory per rank"
    if found.in_flight.num_rows == 0 and found.timeline.num_rows == 0:
        return empty(title, _NOTHING, theme)
    rows = found.ranks.to_pylist()
    names = rank_names([row["rank"] for row in rows])
    unit = byte_unit(found.ranks["peak_bytes"].to_pylist())
    made = figure(title, theme, height=rows_height(len(rows)), legend=legend_above(), bargap=0.35)
    sampled = found.counter is not None
    memory_axis, held_axis = ("x", "x2") if sampled else ("x2", "x")
    if sampled:
        _bars(made, names, unit.of(row["peak_bytes"] for row in rows), "peak", unit.label,
              memory_axis, KINDS["backward"].on(theme))  # fmt: skip
        _ticks(made, names, unit.of(row["mean_bytes"] for row in rows), "mean", unit.label,
               memory_axis, theme, "line-ns-open")  # fmt: skip
    label = "microbatches held"
    held = [float(row["peak_in_flight"]) for row in rows]
    _bars(made, names, held, label, "microbatches", held_axis, KINDS["forward"].on(theme))
    planned = [row["plan_in_flight"] for row in rows]
    if any(count is not None for count in planned):
        _ticks(made, names, planned, "by the plan", "microbatches", held_axis, theme,
               "diamond-open")  # fmt: skip
    split = _PEAKS_SHARE if sampled else 0
    what = "process" if found.counter == RESIDENT else "device"
    made.update_layout(
        {
            "xaxis" + memory_axis[1:]: {
                "title": {"text": f"{what} memory, {unit.label}"},
                "domain": [0, split],
                "rangemode": "tozero",
                "visible": sampled,
            },
            "xaxis" + held_axis[1:]: {
                "title": {"text": label},
                "domain": [split + _GAP / 2 if split else 0, 1],
                "rangemode": "tozero",
                "tickformat": "d",
                "dtick": 1 if max(held) <= _MOST_TICKS else None,
            },
        }
    )
    bars_axis(made, len(rows))
    return made


def _bars(
    made: go.Figure,
    names: list[str],
    values: Sequence[float | None],
    name: str,
    unit: str,
    axis: str,
    colour: str,
) -> None:
    made.add_bar(
        orientation="h",
        y=names,
        x=values,
        name=name,
        xaxis=axis,
        marker={"color": colour, "line": {"width": 0}},
        hovertemplate=f"<b>%{{y}}</b><br>{name} %{{x:,.4~g}} {unit}<extra></extra>",
    )


def _ticks(
    made: go.Figure,
    names: list[str],
    values: Sequence[float | None],
    name: str,
    unit: str,
    axis: str,
    theme: Theme,
    symbol: str,
) -> None:
    colour = REFERENCE.on(theme)
    size = min(_MARKER_PX, _MARKER_SHARE * rows_height(len(names)) / max(len(names), 1))
    line = {"width": 2 if size == _MARKER_PX else 1}
    made.add_scatter(
        y=names,
        x=values,
        name=name,
        xaxis=axis,
        mode="markers",
        marker={"symbol": symbol, "size": size, "color": colour, "line": line},
        hovertemplate=f"<b>%{{y}}</b><br>{name} %{{x:,.4~g}} {unit}<extra></extra>",
    )


def memory_over_time(found: Memory, theme: Theme = "light") -> go.Figure:
    """Memory above, below it a strip per rank of the microbatches that it holds.

    Of the ranks with the highest peaks, at most twelve.
    """
    title = "Memory and microbatches held"
    if found.in_flight.num_rows == 0 and found.timeline.num_rows == 0:
        return empty(title, _NOTHING, theme)
    rows = found.ranks.sort_by([("peak_bytes", "descending"), ("peak_in_flight", "descending")])
    ranks = sorted(rows["rank"].to_pylist()[: len(_LINES) * len(_DASHES)])
    upper_px = _UPPER_PX if found.timeline.num_rows else 0
    strips_px = _STRIP_PX * len(ranks) if found.in_flight.num_rows else 0
    height = upper_px + strips_px
    made = figure(title, theme, height=height + FRAME_PX, legend=legend_above())
    split = strips_px / height
    if found.timeline.num_rows:
        _add_memory(made, found, ranks, split, theme)
    if found.in_flight.num_rows:
        _add_held(made, found, ranks, split if found.timeline.num_rows else 1.0, theme)
    lowest = f"y{1 + len(ranks)}" if found.in_flight.num_rows else "y"
    made.update_layout(
        xaxis={"title": {"text": "time since the run's start, s"}, "anchor": lowest},
        yaxis={} if found.timeline.num_rows else {"visible": False},
    )
    return made


def _add_memory(
    made: go.Figure, found: Memory, ranks: Sequence[int], split: float, theme: Theme
) -> None:
    unit = byte_unit(found.timeline["bytes"].to_pylist())
    for number, rank in enumerate(ranks):
        sampled = found.timeline.filter(pc.equal(found.timeline["rank"], rank))
        made.add_scatter(
            x=[ts / 1e9 for ts in sampled["ts"].to_pylist()],
            y=unit.of(sampled["bytes"].to_pylist()),
            name=f"rank {rank}",
            mode="lines+markers",
            marker={"size": 4},
            line={
                "color": KINDS[_LINES[number % len(_LINES)]].on(theme),
                "dash": _DASHES[number // len(_LINES)],
                "width": 1.75,
            },
            hovertemplate=(
                f"<b>rank {rank}</b>, %{{x:,.3f}} s<br>%{{y:,.3~g}} {unit.label}<extra></extra>"
            ),
        )
    gap = _GAP if split else 0
    made.update_layout(yaxis=_memory_axis(found, unit) | {"domain": [min(split + gap, 1), 1]})


def _add_held(
    made: go.Figure, found: Memory, ranks: Sequence[int], top: float, theme: Theme
) -> None:
    """A strip per rank, all of one height and on one scale, the first rank on top."""
    most = pc.max(found.in_flight["count"]).as_py() or 1
    for number, rank in enumerate(ranks):
        held = found.in_flight.filter(pc.equal(found.in_flight["rank"], rank))
        made.add_scatter(
            x=[ts / 1e9 for ts in held["ts"].to_pylist()],
            y=held["count"].to_pylist(),
            name=f"rank {rank}, held",
            showlegend=False,
            mode="lines",
            line={"color": KINDS["forward"].on(theme), "width": 1, "shape": "hv"},
            fill="tozeroy",
            yaxis=f"y{number + 2}",
            hovertemplate=(
                f"<b>rank {rank}</b>, %{{x:,.3f}} s<br>%{{y}} microbatches<extra></extra>"
            ),
        )
        strip = top / len(ranks)
        upper = top - number * strip
        made.update_layout(
            {
                f"yaxis{number + 2}": {
                    "title": {"text": "microbatches held" if number == len(ranks) // 2 else ""},
                    "domain": [upper - _FILLED * strip, upper],
                    "range": [0, most],
                    "tickvals": [0, most / 2],
                    "ticktext": ["", f"rank {rank}"],
                    "zeroline": False,
                    "showgrid": False,
                    "fixedrange": True,
                    "anchor": "x",
                }
            }
        )


def _memory_axis(found: Memory, unit: Unit) -> dict[str, Any]:
    what = "process" if found.counter == RESIDENT else "device"
    return {"title": {"text": f"{what} memory, {unit.label}"}, "rangemode": "tozero"}
