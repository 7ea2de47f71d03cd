"""What-if: what the step would take if something were otherwise, by replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.graph import dependency_graph
from dashboard.analysis.scenarios import (
    Scenario,
    as_recorded,
    balanced_stages,
    faster_communication,
    no_stragglers,
    stage_takes,
    stage_totals,
    together,
)
from dashboard.analysis.whatif import WhatIf, dimensions, what_if
from dashboard.figures.units import percent_text, time_text
from dashboard.figures.whatif import savings
from dashboard.pages.markup import card, figure_card, no_steps, notice, tile, view_select

if TYPE_CHECKING:
    from dashboard.analysis.graph import Graph
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "What-if"
PATH: Final = "/whatif"

_AS_RECORDED: Final = ("", "as recorded")
_SHARES: Final = (50, 60, 70, 80, 90, 95, 105, 110, 125, 150, 200)
"""Percent of its time that a stage may be chosen to take."""
_TIMES: Final = {"2": 2.0, "4": 4.0, "10": 10.0, "free": float("inf")}


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return no_steps(run, state)
    graph = run.answer(dependency_graph, steps)
    usual = what_if(run, None, steps)
    return html.Div(
        [
            *(notice(note) for note in usual.notes),
            figure_card(
                "whatif-savings",
                "What mending saves",
                f"Each alone, by replay of {len(usual.steps)} recorded steps of "
                f"{time_text(usual.measured_ns)}; replayed unchanged they are off by "
                f"{percent_text(abs(usual.replay_error))}.",
                savings(usual, state.theme),
            ),
            _composed(run, steps, graph, state),
        ],
        className="page-stack",
    )


def _composed(run: Run, steps: Sequence[int], graph: Graph, state: ViewState) -> html.Section:
    chosen = [*_chosen(graph, state.extra)]
    content: list[Any] = [html.Div([*_choosers(graph, state.extra)], className="choosers")]
    if chosen:
        content.append(html.Div(_tiles(what_if(run, [together(chosen)], steps)), className="tiles"))
    return card(
        "Put together",
        "All that is chosen here at once: what waits for what stays as recorded, durations change.",
        *content,
    )


def _chosen(graph: Graph, extra: Mapping[str, str]) -> Iterator[Scenario]:
    """What the URL says; values that are none of the choices are left out."""
    if extra.get("straight"):
        yield no_stragglers()
    if extra.get("balance"):
        yield balanced_stages()
    stage, takes = extra.get("stage", ""), extra.get("takes", "")
    if stage in _stages(graph) and takes in map(str, _SHARES):
        yield stage_takes(int(stage), int(takes) / 100)
    for dim in dimensions(graph):
        times = _TIMES.get(extra.get(f"comm_{dim}", ""))
        if times is not None:
            yield faster_communication(dim, times)


def _choosers(graph: Graph, extra: Mapping[str, str]) -> Iterator[html.Label]:
    def select(label: str, key: str, options: Sequence[tuple[str, str]]) -> html.Label:
        return view_select(label, f"whatif-{key}", key, options, extra.get(key, ""))

    yield select("stragglers", "straight", [_AS_RECORDED, ("1", "none")])
    stages = _stages(graph)
    if len(stages) > 1:
        yield select("stages", "balance", [_AS_RECORDED, ("1", "balanced")])
        yield select("stage", "stage", [("", "–"), *((stage, stage) for stage in stages)])
        shares = [(str(share), f"{share} % of its time") for share in _SHARES]
        yield select("takes", "takes", [_AS_RECORDED, *shares])
    for dim in dimensions(graph):
        choices = [(key, "free" if key == "free" else f"{key}× as fast") for key in _TIMES]
        yield select(f"{dim} communication", f"comm_{dim}", [_AS_RECORDED, *choices])


def _stages(graph: Graph) -> list[str]:
    return [str(stage) for stage in stage_totals(graph, as_recorded(graph))]


def _tiles(found: WhatIf) -> list[Any]:
    (prediction,) = found.predictions
    whole = found.measured_ns
    interval = "one step: no interval"
    if prediction.low_ns is not None and prediction.high_ns is not None:
        interval = f"{time_text(prediction.low_ns)} to {time_text(prediction.high_ns)} (95 %)"
    return [
        tile("step", time_text(prediction.step_ns), f"measured {time_text(whole)}"),
        tile("saved per step", time_text(prediction.saved_ns), interval),
        tile(
            "of the step",
            percent_text(prediction.saved_ns / whole if whole else None),
            prediction.scenario,
        ),
    ]
