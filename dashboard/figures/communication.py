"""Figures of the Communication page: bandwidth by size, over time, and between ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import plotly.graph_objects as go

from dashboard.analysis.bandwidth import P2P, Bandwidth
from dashboard.analysis.utilization import Utilization
from dashboard.figures.base import empty_figure, rank_matrix, say_empty
from dashboard.figures.theme import CATEGORIES, REFERENCE, Theme

_NOTHING = "no communication in these steps"
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")


def _colour(dim: str, theme: Theme) -> str:
    return CATEGORIES.get(f"comm:{dim}", CATEGORIES["comm:other"]).on(theme)


def busbw_by_size(
    bandwidth: Bandwidth, peaks: Mapping[str, float], theme: Theme = "light"
) -> go.Figure:
    """busbw of every operation against its size, skew-free (filled) and as seen (hollow)."""
    figure = empty_figure(theme, x="message size (bytes)", y="busbw (GB/s)", height=340)
    series: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for row in bandwidth.operations.to_pylist():
        if row["busbw_skew_free"] is not None and row["bytes"]:
            series[row["dim"], row["op"]].append(row)
    if not series:
        return say_empty(figure, theme, _NOTHING)
    ops = sorted({op for _, op in series})
    for (dim, op), rows in sorted(series.items()):
        symbol = _SYMBOLS[ops.index(op) % len(_SYMBOLS)]
        for column, said, shape in (
            ("busbw_skew_free", "skew-free", symbol),
            ("busbw_seen", "as seen", f"{symbol}-open"),
        ):
            figure.add_scatter(
                x=[row["bytes"] for row in rows],
                y=[row[column] for row in rows],
                mode="markers",
                name=f"{dim} {op}, {said}",
                marker={"color": _colour(dim, theme), "symbol": shape, "size": 7, "opacity": 0.75},
                customdata=[[row["group"], row["seq"], row["step"]] for row in rows],
                hovertemplate=(
                    "%{customdata[0]} #%{customdata[1]}, step %{customdata[2]}: "
                    "%{x:,} B at %{y:.4g} GB/s<extra>%{fullData.name}</extra>"
                ),
            )
    for dim, peak in sorted(peaks.items()):
        figure.add_hline(
            y=peak,
            line={"color": REFERENCE.on(theme), "dash": "6px,4px"},
            annotation_text=f"peak {dim} {peak:g} GB/s",
        )
    figure.update_xaxes(type="log", dtick=1, exponentformat="power")
    figure.update_yaxes(type="log", dtick=1, exponentformat="power")
    return figure


def utilization_over_time(
    found: Utilization, peaks: Mapping[str, float], theme: Theme = "light"
) -> go.Figure:
    """What the links of each dimension carried: % of the peak where all peaks are known."""
    rows = found.table.to_pylist()
    dims = sorted({row["dim"] for row in rows})
    relative = bool(dims) and all(dim in peaks for dim in dims)
    unit = "% of link peak" if relative else "GB/s per link"
    figure = empty_figure(theme, x="time (ms)", y=f"carried ({unit})", height=260)
    if not rows:
        return say_empty(figure, theme, _NOTHING)
    for dim in dims:
        mine = [row for row in rows if row["dim"] == dim]
        scale = 100 / peaks[dim] if relative else 1.0
        figure.add_scatter(
            x=[row["start"] / 1e6 for row in mine],
            y=[row["gbps"] * scale for row in mine],
            mode="lines",
            line={"color": _colour(dim, theme), "width": 1.5, "shape": "hv"},
            fill="tozeroy",
            name=dim,
            hovertemplate="%{x:.1f} ms: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    figure.update_yaxes(rangemode="tozero", exponentformat="SI")
    return figure


def p2p_matrix(bandwidth: Bandwidth, theme: Theme = "light") -> go.Figure:
    """MB sent from rank (row) to rank (column), over the steps shown."""
    figure = empty_figure(theme, x="destination rank", y="source rank", height=320)
    sent: dict[tuple[int, int], float] = defaultdict(float)
    for row in bandwidth.operations.to_pylist():
        if row["op"] == P2P:
            sent[row["src"], row["dst"]] += row["bytes"] / 1e6
    if not sent:
        return say_empty(figure, theme, "no point-to-point messages in these steps")
    ranks = sorted({rank for pair in sent for rank in pair})
    values = [[sent.get((src, dst)) for dst in ranks] for src in ranks]
    rank_matrix(figure, ranks, values, "rank %{y} → rank %{x}: %{z:.3f} MB", "MB", theme)
    return figure


def arrival_skew(bandwidth: Bandwidth, theme: Theme = "light") -> go.Figure:
    """How far apart the members of each group arrive: the spread per group, ms."""
    figure = empty_figure(theme, x="arrival skew (ms)", y="", height=320)
    skews: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in bandwidth.operations.to_pylist():
        skews[row["dim"], f"{row['group']} {row['op']}"].append(row["skew_ns"] / 1e6)
    if not skews:
        return say_empty(figure, theme, _NOTHING)
    for (dim, name), values in sorted(skews.items()):
        figure.add_box(
            x=values,
            name=name,
            marker={"color": _colour(dim, theme), "size": 4},
            line={"width": 1.5},
            showlegend=False,
            orientation="h",
            hovertemplate="%{x:.2f} ms<extra>%{fullData.name}</extra>",
        )
    figure.update_yaxes(showgrid=False)
    return figure
