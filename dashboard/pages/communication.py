"""Communication: how fast messages went, when, between whom, and who came late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.bandwidth import P2P
from dashboard.analysis.operations import category_of
from dashboard.analysis.utilization import utilization
from dashboard.figures.communication import (
    MOST_SKEW_ROWS,
    busbw_by_size,
    message_bytes,
    message_rates,
    skew_by_operation,
    utilization_over_time,
)
from dashboard.figures.theme import CATEGORIES
from dashboard.figures.units import byte_text, rate_text, time_text
from dashboard.pages.markup import card, csv_link, data_table, figure_card, no_steps

if TYPE_CHECKING:
    from dashboard.analysis.bandwidth import Bandwidth
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "Communication"
PATH: Final = "/communication"
_BANDWIDTHS: Final = ("algbw_seen", "busbw_seen", "algbw_skew_free", "busbw_skew_free")
_COLUMNS: Final = (
    "group",
    "operation",
    "ranks",
    "count",
    "incomplete",
    "total",
    "median size",
    "algbw, as seen",
    "busbw, as seen",
    "algbw, skew-free",
    "busbw, skew-free",
    "mean skew",
)


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return no_steps(run, state)
    bandwidth = run.bandwidth(steps)
    if not bandwidth.summary.num_rows:
        return _without_communication()
    peaks, theme = run.meta.link_peaks, state.theme
    return html.Div(
        [
            _table(bandwidth, state),
            html.Div(
                [
                    figure_card(
                        "communication-busbw",
                        "Bus bandwidth by message size",
                        "Filled: skew-free, from the last arrival on: what the link did. Hollow: "
                        "as seen, waiting included: what it cost. Medians; lines span 10 to 90 %.",
                        busbw_by_size(bandwidth, peaks, theme),
                    ),
                    figure_card(
                        "communication-skew",
                        "Arrival skew, and who comes last",
                        "An operation starts moving bytes when its last member arrives. "
                        f"Up to {MOST_SKEW_ROWS} rows, most total skew first.",
                        skew_by_operation(bandwidth, theme),
                    ),
                ],
                className="grid-2",
            ),
            figure_card(
                "communication-utilization",
                "Links over time",
                "Bytes on the wire per time bin; a link is a group, or a pair of ranks for "
                "messages." + _peaks_note(peaks),
                utilization_over_time(utilization(bandwidth), peaks, theme),
            ),
            *_between_ranks(bandwidth, state),
        ],
        className="page-stack",
    )


def _table(bandwidth: Bandwidth, state: ViewState) -> html.Section:
    summary = bandwidth.summary
    return card(
        "Groups and operations",
        "Total bytes over total time. As seen: waiting for the last member included; skew-free: "
        "from its arrival on. 1 GB/s = 1e9 B/s.",
        data_table(_COLUMNS, [_row(row, state) for row in summary.to_pylist()], words=2),
        tools=[
            csv_link(
                "communication",
                summary.column_names,
                [list(row.values()) for row in summary.to_pylist()],
            )
        ],
    )


def _between_ranks(bandwidth: Bandwidth, state: ViewState) -> list[html.Div]:
    """Messages by source and destination; nothing for a run that sends none."""
    if P2P not in bandwidth.summary["op"].to_pylist():
        return []
    cards = [
        figure_card(
            "communication-bytes",
            "Messages: bytes",
            "Sent from rank (row) to rank (column), in the steps shown.",
            message_bytes(bandwidth, state.theme),
        ),
        figure_card(
            "communication-rates",
            "Messages: bandwidth",
            "Skew-free: total bytes over total transfer time.",
            message_rates(bandwidth, state.theme),
        ),
    ]
    return [html.Div(cards, className="grid-2")]


def _row(row: dict[str, Any], state: ViewState) -> list[Any]:
    colour = CATEGORIES[category_of(row["dim"])].on(state.theme)
    swatch = html.Span(className="swatch", style={"background": colour})
    return [
        html.Span([swatch, row["group"]], className="swatched"),
        row["op"],
        str(row["n"] or "–"),
        f"{row['count']:,}",
        f"{row['incomplete']:,}",
        byte_text(row["bytes_total"]),
        byte_text(row["bytes_median"]),
        *(rate_text(row[name]) for name in _BANDWIDTHS),
        time_text(row["skew_ns_mean"]),
    ]


def _peaks_note(peaks: Any) -> str:
    if peaks:
        return ""
    return " No link peaks are known: Tracer(…, link_peaks={…}) records them."


def _without_communication() -> html.Div:
    return html.Div(
        [
            html.H2("No communication in these steps"),
            html.P(
                [
                    "Collectives, sends and receives of torch.distributed are recorded by "
                    "themselves once the tracer runs on every rank: ",
                    html.Code("Tracer(…)"),
                    " around the loop, or ",
                    html.Code("torchrun … -m tracer"),
                    ".",
                ]
            ),
        ],
        className="card empty",
    )
