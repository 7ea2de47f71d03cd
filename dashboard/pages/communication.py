"""Communication: how fast messages went, when, between whom, and who came late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.communication.bandwidth import P2P
from dashboard.analysis.communication.collective_totals import collective_totals
from dashboard.analysis.communication.links import links
from dashboard.analysis.communication.utilization import utilization
from dashboard.analysis.operations import category_of
from dashboard.figures.collectives import collective_bytes, collective_rates
from dashboard.figures.communication import (
    MOST_SKEW_ROWS,
    busbw_by_size,
    message_bytes,
    message_rates,
    skew_by_operation,
    utilization_over_time,
)
from dashboard.figures.latency import time_by_size
from dashboard.figures.overlap import overlap_by_dimension
from dashboard.figures.theme import CATEGORIES
from dashboard.figures.units import byte_text, rate_text, time_text
from dashboard.pages.markup import empty_page, figure_card, no_steps, table_card

if TYPE_CHECKING:
    from dashboard.analysis.communication.bandwidth import Bandwidth
    from dashboard.analysis.communication.latency_bandwidth import Line
    from dashboard.analysis.communication.links import Links
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
    "α",
    "β",
)


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return no_steps(run, state, PATH)
    bandwidth = run.bandwidth(steps)
    if not bandwidth.summary.num_rows:
        return _without_communication(run)
    found, theme = links(run, steps), state.theme
    peaks = {dim: peak.gbps for dim, peak in found.peaks.items()}
    return html.Div(
        [
            *_slow_links(found),
            _table(bandwidth, found, state),
            figure_card(
                "communication-overlap",
                "Exposed and overlapped, by mesh dimension",
                "Hatched: hidden by compute, the optimizer, or a dimension that takes the time "
                "before it (tp, pp, dp, other). Only what is exposed lengthens a step.",
                overlap_by_dimension(run.accounting(steps), theme),
            ),
            html.Div(
                [
                    figure_card(
                        "communication-busbw",
                        "Bus bandwidth by message size",
                        "Filled: skew-free, from the last arrival on: what the link did. Hollow: "
                        "as seen, waiting included: what it cost. Medians; bars span 10 to 90 %; "
                        "curves are the fit of α and β, dotted lines the peaks.",
                        busbw_by_size(bandwidth, peaks, theme, found.fits()),
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
                "messages." + _peaks_note(found),
                utilization_over_time(utilization(bandwidth), peaks, theme),
            ),
            _lines(found, state),
            *_between_ranks(bandwidth, state),
            *_by_rank(run, steps, bandwidth, state),
        ],
        className="page-stack",
    )


def _table(bandwidth: Bandwidth, found: Links, state: ViewState) -> html.Section:
    rows = bandwidth.summary.to_pylist()
    return table_card(
        "communication",
        "Groups and operations",
        "Total bytes over total time. As seen: waiting for the last member included; skew-free: "
        "from its arrival on. 1 GB/s = 1e9 B/s. α: what an operation takes however small; β: the "
        "busbw of large ones (* as calibrated).",
        _COLUMNS,
        [_row(row, found, state) for row in rows],
        words=2,
        saved=rows,
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


def _by_rank(
    run: Run, steps: Sequence[int], bandwidth: Bandwidth, state: ViewState
) -> list[html.Div]:
    """Collectives by rank; nothing for a run that has none."""
    if not {*bandwidth.summary["op"].to_pylist()} - {P2P}:
        return []
    totals = run.answer(collective_totals, steps)
    cards = [
        figure_card(
            "communication-collective-bytes",
            "Collectives: bytes",
            "Of each rank in all groups of a dimension, in the steps shown. Equal ranks send "
            "equally much; each column has its own shades.",
            collective_bytes(totals, state.theme),
        ),
        figure_card(
            "communication-collective-rates",
            "Collectives: bandwidth",
            "Skew-free busbw as each rank saw it, from the last arrival to its own end. One low "
            "cell in a column is a slow rank or link; each column has its own shades.",
            collective_rates(totals, state.theme),
        ),
    ]
    return [html.Div(cards, className="grid-2")]


def _row(row: dict[str, Any], found: Links, state: ViewState) -> list[Any]:
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
        *_alpha_beta(found, row["group"], row["op"]),
    ]


def _peaks_note(found: Links) -> str:
    if not found.peaks:
        return (
            " No link peaks are known: Tracer(…, link_peaks={…}) records them, "
            "rankscope calibrate measures them."
        )
    said = (f"{dim} {peak.gbps:.3g} GB/s ({peak.source})" for dim, peak in found.peaks.items())
    return " Peaks: " + ", ".join(said) + "."


def _slow_links(found: Links) -> list[html.Div]:
    """A box that names them; nothing where none stands out."""
    if not found.slow:
        return []
    entries = [html.Li(str(link)) for link in found.slow]
    said = "Slow links: slower than their peers at the same operation and size."
    return [html.Div([html.Strong(said), html.Ul(entries)], className="notice", role="note")]


def _lines(found: Links, state: ViewState) -> html.Section:
    """Latency and bandwidth as a figure."""
    note = " ".join(
        [
            "The time of an operation is α + size × factor / β. Filled points and whole lines: "
            "this run, under load; hollow and dashed: rankscope calibrate.",
            *(f"{line.group} {line.op}: {line.why}." for line in _without_line(found)),
            *(f"{note}." for note in found.notes),
        ]
    )
    figure = time_by_size(found, state.theme)
    return figure_card("communication-latency", "Latency and bandwidth", note, figure)


def _without_line(found: Links) -> list[Line]:
    """The first of them: the reason is the same for most."""
    return [line for line in found.lines if line.why][:1]


def _alpha_beta(found: Links, group: str, op: str) -> tuple[str, str]:
    """α and β of an operation; with * where they are not the run's own."""
    line = found.line(group, op)
    if line is None:
        return "–", "–"
    mark = "" if line in found.lines else "*"
    beta = "–" if line.beta_gbps is None else rate_text(line.beta_gbps) + mark
    return time_text(line.alpha_ns) + mark, beta


def _without_communication(run: Run) -> html.Div:
    title = "No communication in these steps"
    if run.meta.world_size == 1:
        return empty_page(title, "This run has one rank, which has nobody to talk to.")
    return empty_page(
        title,
        [
            "Collectives, sends and receives of torch.distributed are recorded by themselves once "
            "the tracer runs on every rank: ",
            html.Code("Tracer(…)"),
            " around the loop, or ",
            html.Code("torchrun … -m tracer"),
            ".",
        ],
    )
