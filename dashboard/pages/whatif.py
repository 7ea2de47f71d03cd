"""What-if: what the step would take if something were otherwise, by replay."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from dash import Dash, Input, Output, dcc, html

from dashboard.analysis.layouts.layouts import usual_layouts
from dashboard.analysis.replay.graph import dependency_graph
from dashboard.analysis.replay.other_plans import has_plans, usual_other_plans
from dashboard.analysis.replay.whatif import what_if
from dashboard.figures.layouts import layout_map
from dashboard.figures.units import percent_text, time_text
from dashboard.figures.whatif import savings
from dashboard.pages.markup import (
    figure_card,
    no_steps,
    notice,
    table_card,
)
from dashboard.pages.state import ViewState, parse
from dashboard.pages.whatif_choices import composed, register_choices, signed
from tracer.errors import RankscopeError

if TYPE_CHECKING:
    from dashboard.analysis.layouts.layouts import Layouts
    from dashboard.analysis.layouts.prediction import LayoutPrediction
    from dashboard.analysis.replay.other_plans import OtherPlans
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
_CHOICES: Final = 256
"""Of runs and steps, whose layouts may be asked for at a time."""
_LOG: Final = logging.getLogger(__name__)


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return no_steps(run, state, PATH)
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
            composed(run, steps, graph, state),
            *(_planned(run, steps, state) if has_plans(run) else []),
        ],
        className="page-stack",
    )


def register(app: Dash, runs: Sequence[Run]) -> None:
    """Each slider writes its key of the URL; layouts come when the rest of the page is there."""
    register_choices(app)

    @lru_cache(_CHOICES)
    def one_at_a_time(run: int, steps: tuple[int, ...]) -> Lock:
        """A page that is laid out anew meanwhile waits for the first answer; others do not."""
        return Lock()

    @app.callback(Output("whatif-other-layouts", "children"), Input("whatif-asked", "data"))
    def fill(asked: Any) -> Any:
        try:
            state = parse(str(asked), len(runs))
            run = runs[state.run]
            steps = state.chosen(run.steps)
            with one_at_a_time(state.run, steps):
                layouts = run.answer(usual_layouts, steps)
            return _explored(layouts, state)
        except RankscopeError as error:
            return notice(str(error))
        except Exception:
            _LOG.exception("layouts of %s", asked)
            return notice("Layouts failed; the reason is in the terminal that runs the dashboard.")


def _planned(run: Run, steps: Sequence[int], state: ViewState) -> list[Any]:
    """Other plans, which the step model carries out, and the place of other layouts."""
    plans = run.answer(usual_other_plans, steps)
    found = [
        table_card(
            "whatif-plans",
            "Other plans",
            "The recorded costs, carried out in another order; microbatches (mb) are as large as "
            f"recorded. The recorded plan itself is predicted {signed(plans.model_error)} off "
            "what was measured.",
            _PLAN_COLUMNS,
            [*_plan_rows(plans)],
            saved=[plan.to_json() for plan in (plans.recorded, *plans.predictions)],
        )
    ]
    if run.meta.world_size > _MOST_RANKS:
        said = f"rankscope layouts {run.path}"
        return [*found, notice(f"With so many ranks layouts take minutes: {said} prints them.")]
    return [*found, *_waiting(state)]


def _waiting(state: ViewState) -> Iterator[Any]:
    """The place of the layouts, and what they are asked of. Of 64 ranks they take minutes."""
    asked = ViewState(run=state.run, steps=state.steps, theme=state.theme)
    yield dcc.Store(id="whatif-asked", data=asked.query())
    yield html.Div(
        html.Div("Working out other layouts…", className="page-loading", role="status"),
        id="whatif-other-layouts",
    )


def _explored(layouts: Layouts, state: ViewState) -> html.Div:
    figure = layout_map(layouts, state.theme)
    figure.update_layout(uirevision=state.query())
    return html.Div(
        [
            figure_card(
                "whatif-layouts",
                "Pipeline or tensor parallelism?",
                "The same ranks and batch, split otherwise: the best that each split can do, "
                f"predicted; the recorded one is {signed(layouts.model_error)} off.",
                figure,
            ),
            table_card(
                "whatif-best-layouts",
                "Best layouts",
                "p pipeline × t tensor × d data ranks, m microbatches. On hovering: what is "
                "assumed.",
                _LAYOUT_COLUMNS,
                [*_layout_rows(layouts)],
                saved=[_saved_layout(one) for one in (layouts.recorded, *layouts.predictions)],
            ),
        ],
        className="grid-2",
    )


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


def _saved_layout(found: LayoutPrediction) -> dict[str, Any]:
    """Its fields for a CSV file, with a column for each share of the step."""
    fields = found.to_json()
    shares = fields.pop("shares")
    shown = {"layout": str(found.layout)}
    return fields | shown | {f"share_{name}": share for name, share in shares.items()}


def _change(value: float, recorded: float, is_recorded: bool) -> str:
    if is_recorded or not recorded:
        return "recorded"
    return signed(value / recorded - 1)
