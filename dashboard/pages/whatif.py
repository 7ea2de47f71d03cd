"""What-if: what the step would take if something were otherwise, by replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.graph import dependency_graph
from dashboard.analysis.layouts import usual_layouts
from dashboard.analysis.other_plans import has_plans, usual_other_plans
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
from dashboard.figures.layouts import layout_map
from dashboard.figures.units import percent_text, time_text
from dashboard.figures.whatif import savings
from dashboard.pages.markup import (
    card,
    data_table,
    figure_card,
    no_steps,
    notice,
    tile,
    view_select,
)

if TYPE_CHECKING:
    from dashboard.analysis.graph import Graph
    from dashboard.analysis.layouts import Layouts
    from dashboard.analysis.other_plans import OtherPlans
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "What-if"
PATH: Final = "/whatif"

_MOST_LAYOUTS: Final = 10
_MOST_RANKS: Final = 64
"""Of a run whose layouts a page explores while somebody waits for it."""
_PLAN_COLUMNS: Final = (
    "plan", "m", "v", "step", "per mb", "change", "bubble", "microbatches in flight",
)  # fmt: skip
_LAYOUT_COLUMNS: Final = ("layout", "per mb", "change", "limit", "activations")
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
            *(_planned(run, steps, state) if has_plans(run) else []),
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


def _planned(run: Run, steps: Sequence[int], state: ViewState) -> list[html.Section | html.Div]:
    """Other plans and other layouts, which the step model carries out."""
    plans = run.answer(usual_other_plans, steps)
    found: list[html.Section | html.Div] = [
        card(
            "Other plans",
            "The recorded costs, carried out in another order; microbatches (mb) are as large as "
            f"recorded. The recorded plan itself is predicted {_signed(plans.model_error)} off "
            "what was measured.",
            data_table(_PLAN_COLUMNS, [*_plan_rows(plans)], words=1),
        )
    ]
    if run.meta.world_size > _MOST_RANKS:
        said = f"rankscope layouts {run.path}"
        return [*found, notice(f"With so many ranks layouts take minutes: {said} prints them.")]
    layouts = run.answer(usual_layouts, steps)
    return [
        *found,
        html.Div(
            [
                figure_card(
                    "whatif-layouts",
                    "Pipeline or tensor parallelism?",
                    "The same ranks and batch, split otherwise: the best that each split can do, "
                    f"predicted; the recorded one is {_signed(layouts.model_error)} off.",
                    layout_map(layouts, state.theme),
                ),
                card(
                    "Best layouts",
                    "p pipeline × t tensor × d data ranks, m microbatches. On hovering: what is "
                    "assumed.",
                    data_table(_LAYOUT_COLUMNS, [*_layout_rows(layouts)], words=1),
                ),
            ],
            className="grid-2",
        ),
    ]


def _plan_rows(found: OtherPlans) -> Iterator[list[Any]]:
    recorded = found.recorded
    for plan in (recorded, *found.predictions):
        yield [
            html.Span(plan.schedule.removeprefix("Schedule"), title="; ".join(plan.assumed)),
            str(plan.m),
            str(plan.v),
            time_text(plan.step_ns),
            time_text(plan.microbatch_ns),
            _change(plan.microbatch_ns, recorded.microbatch_ns, plan is recorded),
            percent_text(plan.bubble_fraction_of_window),
            str(plan.in_flight),
        ]


def _layout_rows(found: Layouts) -> Iterator[list[Any]]:
    recorded = found.recorded
    for layout in (recorded, *found.predictions[:_MOST_LAYOUTS]):
        yield [
            html.Span(str(layout.layout), title="; ".join(layout.assumed)),
            time_text(layout.sample_ns),
            _change(layout.sample_ns, recorded.sample_ns, layout is recorded),
            layout.limit,
            f"{layout.activations:.2g}×",
        ]


def _change(value: float, recorded: float, is_recorded: bool) -> str:
    if is_recorded or not recorded:
        return "recorded"
    return _signed(value / recorded - 1)


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %"


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
