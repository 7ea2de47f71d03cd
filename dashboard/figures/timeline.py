"""A small timeline in plotly, for notebooks and reports: one step, or part of it, of all ranks.

The dashboard's own timeline (assets/timeline.mjs) draws millions of events; this one as many as
plotly can. What it leaves out it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.figures.base import figure, legend_above
from dashboard.figures.theme import KINDS, SURFACES, Theme
from dashboard.figures.units import time_text, time_unit
from dashboard.timeline.nesting import nesting_depth
from tracer.errors import UsageError
from tracer.schema import COMPUTE_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

MOST_EVENTS: Final = 4_000
"""Drawn; plotly needs 0.1 s for some hundred of them, and seconds for ten thousand."""

_ROW_PX: Final = 26
_MOST_PX: Final = 700
_LEAST_BOX: Final = 0.012
"""Share of the window that has room for a microbatch number."""
_DARK_ON: Final = ("forward", "wait", "module", "data")
"""Kinds of a light colour, on which numbers are dark."""


def timeline(run: Recording, step: int, theme: Theme = "light") -> go.Figure:
    """The events of one step on every rank, nested ones below what encloses them.

    Of more than `MOST_EVENTS` the longest are drawn.

    Raises:
        UsageError: there is no such step.
    """
    title = f"Timeline of step {step}"
    events = run.events(steps=[step])
    events = events.filter(pc.not_equal(events["kind"].cast(pa.string()), "step"))
    if not events.num_rows:
        raise UsageError(f"{run.path}: no event of step {step} was recorded; {_steps_of(run)}")
    begin = pc.min(events["start"]).as_py()
    end = pc.max(pc.add(events["start"], events["duration"])).as_py()
    drawn, left_out, longest = _longest(events)
    rows, names = _rows(drawn)
    unit = time_unit([end - begin])
    made = figure(title, theme, barmode="overlay", height=120 + min(_MOST_PX, _ROW_PX * len(names)))
    kinds = drawn["kind"].cast(pa.string()).to_numpy(zero_copy_only=False)
    for kind in [kind for kind in KINDS if kind in set(kinds)]:
        chosen = np.flatnonzero(kinds == kind)
        made.add_trace(
            _boxes(kind, drawn.take(pa.array(chosen)), rows[chosen], begin, end, unit.size, theme)
        )
    made.update_xaxes(title=f"time, {unit.label}", range=[0, (end - begin) / unit.size])
    made.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=names,
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
    )
    made.update_layout(legend=legend_above())
    if left_out:
        made.update_layout(
            title={
                "subtitle": {
                    "text": f"{left_out:,} events of up to {time_text(longest)} are not drawn",
                    "font": {"color": SURFACES["muted"].on(theme)},
                }
            }
        )
    return made


def _steps_of(run: Recording) -> str:
    if not run.steps:
        return "no step is complete on every rank"
    return f"complete steps: {run.steps[0]} to {run.steps[-1]}"


def _longest(events: pa.Table) -> tuple[pa.Table, int, int]:
    """The longest events in their order, how many are left out, and the longest of those, ns."""
    left_out = max(0, events.num_rows - MOST_EVENTS)
    if not left_out:
        return events, 0, 0
    duration = events["duration"].to_numpy()
    order = np.argsort(-duration, kind="stable")
    kept = np.sort(order[:MOST_EVENTS])
    return events.take(pa.array(kept)), left_out, int(duration[order[MOST_EVENTS]])


def _rows(events: pa.Table) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """The row of each event, and the rows' names: rank, then lane, then depth."""
    ranks = events["rank"].to_numpy()
    lanes = events["lane"].cast(pa.string()).to_numpy(zero_copy_only=False)
    start = events["start"].to_numpy()
    end = start + events["duration"].to_numpy()
    rows = np.zeros(len(start), np.int64)
    names: list[str] = []
    keys = sorted({(int(r), str(lane)) for r, lane in zip(ranks, lanes, strict=True)}, key=_order)
    for rank, lane in keys:
        mine = np.flatnonzero((ranks == rank) & (lanes == lane))
        ordered = mine[np.lexsort((-end[mine], start[mine]))]
        depth = nesting_depth(start[ordered], end[ordered])
        rows[ordered] = len(names) + depth
        label = f"rank {rank}" if lane == "host:main" else f"rank {rank} · {lane}"
        names += [label] + [""] * int(depth.max(initial=0))
    return rows, names


def _order(key: tuple[int, str]) -> tuple[int, bool, bool, str]:
    rank, lane = key
    return rank, not lane.startswith("host:"), lane != "host:main", lane


def _boxes(
    kind: str,
    events: pa.Table,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    begin: int,
    end: int,
    unit: float,
    theme: Theme,
) -> go.Bar:
    found = events.select(["start", "duration", "name", "microbatch"]).to_pylist()
    texts = [
        str(row["microbatch"])
        if kind in COMPUTE_KINDS
        and row["microbatch"] is not None
        and row["duration"] >= _LEAST_BOX * (end - begin)
        else ""
        for row in found
    ]
    on = "on-light-box" if kind in _DARK_ON else "on-dark-box"
    return go.Bar(
        name=kind.replace("_", " "),
        orientation="h",
        base=[(row["start"] - begin) / unit for row in found],
        x=[row["duration"] / unit for row in found],
        y=rows,
        width=0.86,
        text=texts,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": SURFACES[on].on(theme)},
        marker={"color": KINDS[kind].on(theme), "line": {"width": 0}},
        customdata=[[row["name"], time_text(row["duration"])] for row in found],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra>" + kind + "</extra>",
    )
