"""The figure of memory: each rank's over time, and below it the microbatches that it holds."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go
import pyarrow.compute as pc

from dashboard.analysis.memory import RESIDENT, Memory
from dashboard.figures.base import empty, figure, legend_above
from dashboard.figures.theme import KINDS, Theme
from dashboard.figures.units import Unit, byte_unit

_HEIGHT_PX: Final = 420
_LINES: Final = ("backward", "optimizer", "send", "forward", "collective", "recv")
"""Kinds whose colours tell ranks apart; dashes do beyond them."""
_DASHES: Final = ("solid", "dot")
_GAP: Final = 0.08
_MOST_TICKS: Final = 8
"""Microbatches held up to which each number has a tick of its own: there are no halves."""


def memory_over_time(found: Memory, theme: Theme = "light") -> go.Figure:
    """Memory and microbatches held of the ranks with the highest peaks, at most twelve."""
    title = "Memory and microbatches held"
    if found.in_flight.num_rows == 0 and found.timeline.num_rows == 0:
        return empty(title, "In these steps no memory was sampled and no microbatch held.", theme)
    most = len(_LINES) * len(_DASHES)
    rows = found.ranks.sort_by([("peak_bytes", "descending"), ("peak_in_flight", "descending")])
    ranks = sorted(rows["rank"].to_pylist()[:most])
    unit = byte_unit(found.timeline["bytes"].to_pylist())
    made = figure(title, theme, height=_HEIGHT_PX, legend=legend_above())
    for number, rank in enumerate(ranks):
        line: dict[str, Any] = {
            "color": KINDS[_LINES[number % len(_LINES)]].on(theme),
            "dash": _DASHES[number // len(_LINES)],
            "width": 1.75,
        }
        sampled = found.timeline.filter(pc.equal(found.timeline["rank"], rank))
        made.add_scatter(
            x=[ts / 1e9 for ts in sampled["ts"].to_pylist()],
            y=unit.of(sampled["bytes"].to_pylist()),
            name=f"rank {rank}",
            legendgroup=str(rank),
            showlegend=bool(sampled.num_rows),
            mode="lines+markers",
            marker={"size": 4},
            line=line,
            hovertemplate=(
                f"<b>rank {rank}</b>, %{{x:,.3f}} s<br>%{{y:,.3~g}} {unit.label}<extra></extra>"
            ),
        )
        held = found.in_flight.filter(pc.equal(found.in_flight["rank"], rank))
        made.add_scatter(
            x=[ts / 1e9 for ts in held["ts"].to_pylist()],
            y=held["count"].to_pylist(),
            name=f"rank {rank}",
            legendgroup=str(rank),
            showlegend=not sampled.num_rows,
            mode="lines",
            line=line | {"shape": "hv"},
            yaxis="y2",
            hovertemplate=(
                f"<b>rank {rank}</b>, %{{x:,.3f}} s<br>%{{y}} microbatches<extra></extra>"
            ),
        )
    made.update_layout(
        xaxis={"title": {"text": "time since the run's start, s"}, "anchor": "y2"},
        yaxis=_memory_axis(found, unit),
        yaxis2={
            "title": {"text": "microbatches held"},
            "domain": [0, 0.5 - _GAP / 2] if found.timeline.num_rows else [0, 1],
            "rangemode": "tozero",
            "tickformat": "d",
            "dtick": 1 if (pc.max(found.in_flight["count"]).as_py() or 0) <= _MOST_TICKS else None,
            "anchor": "x",
        },
    )
    return made


def _memory_axis(found: Memory, unit: Unit) -> dict[str, Any]:
    """The upper half of the figure; hidden where no memory was sampled."""
    if not found.timeline.num_rows:
        return {"visible": False}
    what = "process" if found.counter == RESIDENT else "device"
    return {
        "title": {"text": f"{what} memory, {unit.label}"},
        "domain": [0.5 + _GAP / 2, 1],
        "rangemode": "tozero",
    }
