"""Communication: how fast messages went, when, between whom, and who came late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.utilization import utilization
from dashboard.figures.communication import (
    arrival_skew,
    busbw_by_size,
    p2p_matrix,
    utilization_over_time,
)
from dashboard.pages.markup import card, data_table, graph

if TYPE_CHECKING:
    from dashboard.pages.state import ViewState
    from dashboard.runs import Run

TITLE: Final = "Communication"
PATH: Final = "/communication"

_COLUMNS: Final = (
    "group",
    "op",
    "ranks",
    "count",
    "incomplete",
    "total MB",
    "algbw as seen",
    "busbw as seen",
    "algbw skew-free",
    "busbw skew-free",
    "mean skew ms",
)


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    bandwidth = run.bandwidth(state.chosen(run.steps))
    if not bandwidth.summary.num_rows:
        return html.Div("No communication was recorded in these steps.", className="card empty")
    peaks, theme = run.meta.link_peaks, state.theme
    return html.Div(
        [
            card(
                "Bus bandwidth by message size",
                "Filled: from the last arrival on, what the link did. Hollow: as each rank saw it, "
                "waiting included, what it cost.",
                graph("communication-busbw", busbw_by_size(bandwidth, peaks, theme)),
            ),
            card(
                "On the wire over time",
                "Bytes that a link carries per time bin, by mesh dimension."
                + ("" if peaks else " Link peaks are not known: pass link_peaks to the tracer."),
                graph(
                    "communication-utilization",
                    utilization_over_time(utilization(bandwidth), peaks, theme),
                ),
            ),
            html.Div(
                [
                    card(
                        "Point to point",
                        "MB sent from rank to rank.",
                        graph("communication-p2p", p2p_matrix(bandwidth, theme)),
                    ),
                    card(
                        "Arrival skew",
                        "Last arrival minus first, per operation of each group.",
                        graph("communication-skew", arrival_skew(bandwidth, theme)),
                    ),
                ],
                className="grid-2",
            ),
            card(
                "Groups and operations",
                "Bandwidth in GB/s (1e9 B/s): total bytes over total time.",
                data_table(
                    "communication", _COLUMNS, _rows(bandwidth.summary.to_pylist()), words=2
                ),
            ),
        ],
        className="page-stack",
    )


def _rows(summary: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            row["group"],
            row["op"],
            str(row["n"]),
            f"{row['count']:,}",
            f"{row['incomplete']:,}",
            f"{row['bytes_total'] / 1e6:,.3f}",
            *(
                _number(row[name])
                for name in ("algbw_seen", "busbw_seen", "algbw_skew_free", "busbw_skew_free")
            ),
            "–" if row["skew_ns_mean"] is None else f"{row['skew_ns_mean'] / 1e6:,.3f}",
        ]
        for row in summary
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
