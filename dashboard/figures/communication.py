"""Figures of the Communication page: busbw by size, links over time, messages, arrival skew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from dashboard.analysis.communication.bandwidth import BUS_FACTORS, Bandwidth
from dashboard.analysis.communication.bandwidth_by_size import bandwidth_by_size
from dashboard.analysis.communication.latency_bandwidth import Line
from dashboard.analysis.communication.messages import message_totals
from dashboard.analysis.communication.skew import arrival_skew
from dashboard.analysis.communication.utilization import Utilization
from dashboard.analysis.operations import category_of
from dashboard.figures.base import (
    FRAME_PX,
    bars_axis,
    empty,
    figure,
    legend_above,
    log_ticks,
    reference_line,
    rows_height,
)
from dashboard.figures.matrix import matrix
from dashboard.figures.theme import CATEGORIES, SURFACES, Theme
from dashboard.figures.units import (
    Unit,
    byte_text,
    byte_unit,
    percent_text,
    rate_text,
    rate_unit,
    time_text,
    time_unit,
)

_NO_OPERATIONS: Final = "No complete operation in these steps."
_NO_MESSAGES: Final = "No messages between pairs of ranks in these steps."
_SYMBOLS: Final = {
    "all_reduce": "circle",
    "all_gather": "square",
    "reduce_scatter": "diamond",
    "all_to_all": "cross",
    "broadcast": "triangle-up",
    "p2p": "circle",
}
_OTHER_SYMBOL: Final = "hexagon"
MOST_SKEW_ROWS: Final = 16
_RATES: Final = ("busbw_seen", "busbw_skew_free")
_ROOM: Final = 5
_FIT_POINTS: Final = 64
"""Of a fit, which is bent."""
_TALL_PX: Final = 340
_STRIP_PX: Final = 100
_SHARE: Final = "%{y:.1%} of the peak"


def busbw_by_size(
    bandwidth: Bandwidth,
    link_peaks: Mapping[str, float] | None = None,
    theme: Theme = "light",
    lines: Sequence[Line] = (),
) -> go.Figure:
    """busbw against size: skew-free filled, as seen hollow; medians, bars from 10 to 90 %.

    lines: of latency and bandwidth; each is drawn as the busbw that it says of a size.
    """
    title = "Bus bandwidth by size"
    sizes = bandwidth_by_size(bandwidth.operations)
    if sizes.num_rows == 0:
        return empty(title, _NO_OPERATIONS, theme)
    rows = sizes.to_pylist()
    peaks = {
        dim: peak for dim, peak in (link_peaks or {}).items() if dim in {r["dim"] for r in rows}
    }
    unit = rate_unit([*(row["busbw_skew_free"] for row in rows), *peaks.values()])
    made = figure(title, theme, height=_TALL_PX, legend=legend_above())
    for dim, op in dict.fromkeys((row["dim"], row["op"]) for row in rows):
        mine = [row for row in rows if (row["dim"], row["op"]) == (dim, op)]
        for variant, said in zip(_RATES, ("as seen", "skew-free"), strict=True):
            made.add_trace(_points(dim, op, mine, variant, said, unit, theme))
    for line in lines:
        made.add_trace(_fit(line, unit, theme))
    # Peaks may be close to each other, so their names take turns at the two ends.
    for end, (dim, peak) in zip(cycle(("right", "left")), peaks.items(), strict=False):
        label = f"{dim} peak {peak:.3g} GB/s"
        reference_line(made, peak / unit.size, label, theme, log=True, place=(end, "above"))
    shown = [row[name] / unit.size for row in rows for name in _RATES if row[name]]
    made.update_xaxes(
        title_text="message size, bytes",
        type="log",
        tickformat=".2~s",
        ticksuffix="B",
        dtick=log_ticks([row["bytes"] for row in rows]),
    )
    made.update_yaxes(
        title_text=f"busbw, {unit.label}", type="log", tickformat=".2~r", dtick=log_ticks(shown)
    )
    return made


def utilization_over_time(
    found: Utilization, link_peaks: Mapping[str, float] | None = None, theme: Theme = "light"
) -> go.Figure:
    """What each link carried over time, the mean over the links of each dimension: of the peak
    where all peaks are known, else in bytes per second.
    """
    title = "Links over time"
    rows = found.table.to_pylist()
    if not rows:
        return empty(title, _NO_OPERATIONS, theme)
    dims = list(dict.fromkeys(row["dim"] for row in rows))
    peaks = {dim: peak for dim, peak in (link_peaks or {}).items() if dim in dims}
    as_share = len(peaks) == len(dims)
    unit = rate_unit(row["gbps"] for row in rows)
    clock = time_unit(row["start"] for row in rows)
    height = FRAME_PX + _STRIP_PX * len(dims)
    made = figure(title, theme, height=height, showlegend=False, hovermode="x")
    for place, dim in enumerate(dims):
        mine = [row for row in rows if row["dim"] == dim]
        per = peaks[dim] if as_share else unit.size
        axis = "y" if place == 0 else f"y{place + 1}"
        made.add_scatter(
            x=[row["start"] / clock.size for row in mine],
            y=[row["gbps"] / per for row in mine],
            name=dim,
            yaxis=axis,
            mode="lines",
            line={"color": _colour(dim, theme), "width": 1, "shape": "hv"},
            fill="tozeroy",
            hovertemplate=f"{dim}: "
            + (_SHARE if as_share else f"%{{y:,.3~g}} {unit.label}")
            + " per link<extra></extra>",
        )
        top = 1 - place / len(dims)
        strip = {
            "domain": [top - 0.88 / len(dims), top],
            "rangemode": "tozero",
            "nticks": 4,
            "tickformat": ".2~%" if as_share else None,
            "title": {"text": f"{dim}, {'% of peak' if as_share else unit.label}"},
        }
        made.update_layout({axis.replace("y", "yaxis"): strip})
    bottom = "y" if len(dims) == 1 else f"y{len(dims)}"
    made.update_xaxes(
        title_text=f"time since the run's start, {clock.label}", showgrid=False, anchor=bottom
    )
    return made


def message_bytes(bandwidth: Bandwidth, theme: Theme = "light") -> go.Figure:
    """Bytes sent from each rank (rows) to each rank (columns), over all chosen steps."""
    totals = message_totals(bandwidth.operations).to_pylist()
    unit = byte_unit(row["bytes"] or 0 for row in totals)
    cells = {
        (row["src"], row["dst"]): None if row["bytes"] is None else row["bytes"] / unit.size
        for row in totals
    }
    return _messages("Bytes between ranks", totals, cells, unit.label, theme)


def message_rates(bandwidth: Bandwidth, theme: Theme = "light") -> go.Figure:
    """Skew-free bandwidth from each rank (rows) to each rank (columns)."""
    totals = message_totals(bandwidth.operations).to_pylist()
    unit = rate_unit(row["gbps"] for row in totals)
    cells = {
        (row["src"], row["dst"]): None if row["gbps"] is None else row["gbps"] / unit.size
        for row in totals
    }
    return _messages("Bandwidth between ranks", totals, cells, unit.label, theme)


def skew_by_operation(bandwidth: Bandwidth, theme: Theme = "light") -> go.Figure:
    """Mean arrival skew of each group and op, or pair of ranks, and who is usually last.

    The `MOST_SKEW_ROWS` with most skew in total, the largest total on top.
    """
    title = "Arrival skew"
    rows = arrival_skew(bandwidth.operations).to_pylist()[:MOST_SKEW_ROWS]
    if not rows:
        return empty(title, _NO_OPERATIONS, theme)
    unit = time_unit(row["skew_ns_mean"] for row in rows)
    lengths = [row["skew_ns_mean"] / unit.size for row in rows]
    height = max(rows_height(len(rows)), _TALL_PX)
    made = figure(title, theme, height=height, bargap=0.35)
    made.add_bar(
        orientation="h",
        y=[_operation_name(row) for row in rows],
        x=lengths,
        text=[f"rank {r['culprit_rank']} last, {100 * r['culprit_share']:.0f} %" for r in rows],
        textposition="outside",
        cliponaxis=False,
        textfont={"size": 11.5, "color": SURFACES["muted"].on(theme)},
        marker={"color": [_colour(row["dim"], theme) for row in rows], "line": {"width": 0}},
        customdata=[
            [row["count"], row["culprit_rank"], percent_text(row["culprit_share"])] for row in rows
        ],
        hovertemplate=(
            f"<b>%{{y}}</b><br>mean skew %{{x:,.3~g}} {unit.label} over "
            "%{customdata[0]:,} operations<br>rank %{customdata[1]} is the last to arrive in "
            "%{customdata[2]}<extra></extra>"
        ),
    )
    made.update_xaxes(
        title_text=f"first to last arrival, {unit.label} per operation (mean)",
        range=[0, (max(lengths) or 1.0) * 1.35],
    )
    bars_axis(made, len(rows), room=_ROOM)
    return made


def _points(
    dim: str,
    op: str,
    rows: list[dict[str, Any]],
    variant: str,
    said: str,
    unit: Unit,
    theme: Theme,
) -> go.Scatter:
    rows = [row for row in rows if row[variant] is not None]
    colour, free = _colour(dim, theme), variant == "busbw_skew_free"
    symbol = _SYMBOLS.get(op, _OTHER_SYMBOL) + ("" if free else "-open")
    return go.Scatter(
        x=[row["bytes"] for row in rows],
        y=[row[variant] / unit.size for row in rows],
        name=f"{dim} {op}, {said}",
        mode="markers",
        marker={
            "color": colour,
            "symbol": symbol,
            "size": 10,
            "line": {"width": 1.5, "color": colour},
        },
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [(row[f"{variant}_high"] - row[variant]) / unit.size for row in rows],
            "arrayminus": [(row[variant] - row[f"{variant}_low"]) / unit.size for row in rows],
            "thickness": 1,
            "width": 0,
            "color": colour,
        },
        customdata=[[row["count"], byte_text(row["bytes"])] for row in rows],
        hovertemplate=(
            f"<b>{dim} {op}</b>, %{{customdata[1]}}<br>{said} %{{y:,.3~g}} {unit.label} "
            "(median of %{customdata[0]:,})<extra></extra>"
        ),
    )


def _fit(line: Line, unit: Unit, theme: Theme) -> go.Scatter:
    """bytes x factor / (alpha + bytes x factor / beta) over the sizes that were measured."""
    sizes = [float(size) for size in np.geomspace(line.low_bytes, line.high_bytes, _FIT_POINTS)]
    factor = BUS_FACTORS[line.op](line.n)
    times = [line.predict_ns(size) for size in sizes]
    return go.Scatter(
        x=sizes,
        y=[
            size * factor / ns / unit.size if ns else None
            for size, ns in zip(sizes, times, strict=True)
        ],
        name=f"{line.group} {line.op}, α–β fit",
        mode="lines",
        showlegend=False,
        line={"color": _colour(line.dim, theme), "width": 1.5},
        hovertemplate=(
            f"<b>{line.group} {line.op}</b>, fit<br>α {time_text(line.alpha_ns)}, "
            f"β {rate_text(line.beta_gbps)}<extra></extra>"
        ),
    )


def _messages(
    title: str,
    totals: list[dict[str, Any]],
    cells: Mapping[tuple[int, int], float | None],
    value: str,
    theme: Theme,
) -> go.Figure:
    ranks = sorted({row[end] for row in totals for end in ("src", "dst")})
    if not ranks:
        return empty(title, _NO_MESSAGES, theme)
    colours = CATEGORIES["idle"], CATEGORIES["comm:pp"]
    axes = "from rank", "to rank"
    return matrix(title, ranks, ranks, cells, axes=axes, value=value, colours=colours, theme=theme)


def _colour(dim: str, theme: Theme) -> str:
    return CATEGORIES[category_of(dim)].on(theme)


def _operation_name(row: Mapping[str, Any]) -> str:
    if row["src"] is None:
        return f"{row['group']} {row['op']}"
    return f"{row['dim']} {row['src']} → {row['dst']}"
