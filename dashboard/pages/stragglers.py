"""Stragglers: who holds up the others, why, what it costs, and where to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dash import ClientsideFunction, Dash, Input, State, html

from dashboard.analysis.communication.waits import waits_by_culprit
from dashboard.analysis.comparing.compared_steps import warm_steps
from dashboard.analysis.whole_run.work_by_step import work_by_step
from dashboard.figures.stragglers import wait_matrix, work_heatmap
from dashboard.figures.units import percent_text, time_text
from dashboard.pages import timeline
from dashboard.pages.markup import figure_card, no_steps, notice, table_card, view_link

if TYPE_CHECKING:
    from dashboard.analysis.stragglers.stragglers import Straggler, Stragglers
    from dashboard.analysis.stragglers.work import Evidence
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "Stragglers"
PATH: Final = "/stragglers"

_COLUMNS: Final = ("Cause", "What", "Confidence", "Costs per step", "95 %", "Of the step", "See")
_EVIDENCE: Final = ("What", "Rank", "Step", "Stage", "Microbatch", "Took", "Expected", "See")
_WORDS: Final = 3


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return no_steps(run, state, PATH)
    found = run.stragglers(steps)
    first, last = [], []
    if found.found:
        first, last = [_summary(found, state)], [_evidence(found, state)]
    elif found.is_telling:
        first = [_nothing(found)]
    return html.Div(
        [*map(notice, found.notes), *first, *_maps(run, steps, state), *last],
        className="page-stack",
    )


def register(app: Dash, runs: Sequence[Run]) -> None:
    """A click on a cell opens that rank's step in the timeline (assets/pages.js)."""
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("pages", "openCell"),
        Input("stragglers-work", "clickData"),
        State("stragglers-work", "figure"),
    )


def _maps(run: Run, steps: Sequence[int], state: ViewState) -> list[html.Section]:
    """Who worked more than usual in which step, and who waited for whom."""
    work = run.answer(work_by_step, warm_steps(run, steps))
    waits = run.answer(waits_by_culprit, steps)
    several = f" A column is the busiest of {work.stretch} steps." if work.stretch > 1 else ""
    return [
        figure_card(
            "stragglers-work",
            "Work by rank and step, against the median",
            f"Compute and optimizer, against {time_text(work.median_ns)}, the median of all cells. "
            "One odd row is a slow rank or stage, one odd column a long step, single cells are "
            f"jitter.{several} A click opens the step in the timeline.",
            work_heatmap(work, state.theme),
        ),
        figure_card(
            "stragglers-waits",
            "Who waited for whom",
            "Messages until the other end began, collectives until the last member arrived. "
            "Follow the chain: the culprit is the rank that others wait for and that waits "
            "for hardly anybody itself.",
            wait_matrix(waits, state.theme),
        ),
    ]


def _nothing(found: Stragglers) -> html.Section:
    said = (
        f"No straggler in {len(found.steps)} steps: no rank, stage or link stands out from its "
        "peers, and no step from the others, by enough to cost anything."
    )
    return html.Section(html.Div(said, className="lead"), className="card")


def _summary(found: Stragglers, state: ViewState) -> html.Section:
    return table_card(
        "stragglers",
        "What holds up the others",
        f"Costs are by replay: the mean of {len(found.steps)} steps, {time_text(found.step_ns)}, "
        "less that of the same steps without the excess. Replayed unchanged they are off by "
        f"{percent_text(abs(found.replay_error))}.",
        _COLUMNS,
        [_row(each, state) for each in found.found],
        words=_WORDS,
        saved=[_without_evidence(each) for each in found.found],
    )


def _row(straggler: Straggler, state: ViewState) -> list[Any]:
    low, high = straggler.low_ms, straggler.high_ms
    interval = "–" if low is None or high is None else f"{low:,.2f} to {high:,.2f} ms"
    return [
        straggler.cause,
        straggler.text,
        straggler.confidence,
        f"{straggler.ms_per_step:,.2f} ms",
        interval,
        percent_text(straggler.share),
        _seen(straggler.evidence[0], state) if straggler.evidence else "–",
    ]


def _evidence(found: Stragglers, state: ViewState) -> html.Section:
    seen = [(straggler, e) for straggler in found.found for e in straggler.evidence]
    return table_card(
        "stragglers-evidence",
        "Where it is seen",
        "The largest excesses of each straggler, against what its peers or the rank itself "
        "usually take.",
        _EVIDENCE,
        [_evidence_row(e, state) for _, e in seen],
        saved=[{"cause": s.cause, "text": s.text} | e.to_json() for s, e in seen],
    )


def _without_evidence(straggler: Straggler) -> dict[str, Any]:
    """Its fields for a CSV file; the evidence has one of its own."""
    return {key: value for key, value in straggler.to_json().items() if key != "evidence"}


def _evidence_row(evidence: Evidence, state: ViewState) -> list[Any]:
    return [
        evidence.name,
        str(evidence.rank),
        str(evidence.step),
        "–" if evidence.stage is None else str(evidence.stage),
        "–" if evidence.microbatch is None else str(evidence.microbatch),
        time_text(evidence.duration),
        time_text(evidence.expected),
        _seen(evidence, state),
    ]


def _seen(evidence: Evidence, state: ViewState) -> html.A:
    """A link to the timeline around it."""
    view = replace(state, window=evidence.window, extra={})
    return view_link(f"step {evidence.step}", timeline.PATH, view, className="tool-link")
