"""Pipeline: how large the bubbles are, against theory and plan, where they sit and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dash import ClientsideFunction, Dash, Input, Output, html, no_update

from dashboard.analysis.pipeline.actions import pipelines
from dashboard.analysis.pipeline.bubble_summary import Ratios, largest_stall, of_pipeline, ratios
from dashboard.analysis.pipeline.schedule import StepSchedule, step_schedule
from dashboard.figures.pipeline import bubble_by_step, bubble_heatmap, bubble_parts, stall_culprits
from dashboard.figures.schedule import schedule_grid
from dashboard.figures.units import percent_text, time_text
from dashboard.pages import timeline
from dashboard.pages.markup import (
    empty_page,
    figure_card,
    no_steps,
    tile,
    view_link,
    view_select,
)
from dashboard.pages.state import parse
from tracer.errors import RankscopeError

if TYPE_CHECKING:
    from dashboard.analysis.pipeline.bubbles import Bubbles
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "Pipeline"
PATH: Final = "/pipeline"
_STEP_KEY: Final = "at"
"""Key of the URL for the step whose schedule is drawn."""

_PIPELINE_KEY: Final = "pipe"
CLIENT_KEYS: Final = frozenset({_STEP_KEY})
_ALONE: Final = 2
"""From that many pipelines on there is one to choose."""


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return no_steps(run, state, PATH)
    bubbles = run.bubbles(steps)
    if not bubbles.steps.num_rows:
        return _without_pipeline()
    bubbles = of_pipeline(bubbles, _pipeline(run, state))
    theme = state.theme
    return html.Div(
        [
            *_pipeline_choice(run, state),
            html.Div(_tiles(bubbles), className="tiles"),
            html.Div(
                [
                    figure_card(
                        "pipeline-bubble",
                        "Bubble ratio over the steps",
                        "Measured above the plan bound: waiting for communication and the host. "
                        "Plan bound above theory: unequal stages.",
                        bubble_by_step(bubbles, theme),
                    ),
                    figure_card(
                        "pipeline-parts",
                        "Where the bubble sits",
                        "Mean step. Warm-up: before a rank's first action; stall: between actions; "
                        "cool-down: after its last.",
                        bubble_parts(bubbles, theme),
                    ),
                ],
                className="grid-2",
            ),
            html.Div(_schedule(run, state), id="pipeline-schedule"),
            html.Div(
                [
                    figure_card(
                        "pipeline-culprits",
                        "Who waited for whom",
                        "Stalls between actions, given to the sender of the message that ended "
                        "them; the diagonal is a rank's own time between actions.",
                        stall_culprits(bubbles, theme),
                    ),
                    figure_card(
                        "pipeline-heatmap",
                        "Bubble by rank and step",
                        "One odd column is an odd step, one odd row an odd stage. A click draws "
                        "the step's schedule.",
                        bubble_heatmap(bubbles, theme),
                    ),
                ],
                className="grid-2",
            ),
        ],
        className="page-stack",
    )


def register(app: Dash, runs: Sequence[Run]) -> None:
    """The schedule follows its step in the URL by itself; clicks on steps choose it."""

    @app.callback(Output("pipeline-schedule", "children"), Input("shell-url", "search"))
    def follow(search: str | None) -> Any:
        try:
            state = parse(str(search or ""), len(runs))
        except RankscopeError:
            return no_update
        run = runs[state.run]
        return _schedule(run, state) if state.chosen(run.steps) else no_update

    for name in ("pipeline-bubble", "pipeline-heatmap"):
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("pages", "drawStep"), Input(name, "clickData")
        )


def _tiles(bubbles: Bubbles) -> list[Any]:
    measured, bound = ratios(bubbles)
    tiles = [
        tile(
            "Bubble, measured",
            percent_text(measured.fraction_of_window),
            f"of the window; {percent_text(measured.over_ideal)} over ideal",
        ),
        tile(
            "Plan bound",
            percent_text(bound.fraction_of_window),
            _bound_note(bound),
        ),
    ]
    theory = bubbles.theory
    if theory is not None:
        tiles.append(
            tile(
                "Theory",
                percent_text(theory.fraction_of_window),
                html.Span(
                    theory.note
                    or f"{theory.schedule.removeprefix('Schedule')}, p {theory.p}, m {theory.m}"
                    + (f", v {theory.v}" if theory.v > 1 else "")
                    + f"; {percent_text(theory.over_ideal)} over ideal",
                    title=theory.source,
                ),
            )
        )
    worst = largest_stall(bubbles)
    if worst is not None:
        said = f"rank {worst.rank} waits for rank {worst.culprit_rank}, per step"
        tiles.append(tile("Largest stall", time_text(worst.stall_ns), said))
    return tiles


def _bound_note(bound: Ratios) -> str:
    if bound.fraction_of_window is None:
        return "unknown: actions are missing, so the steps cannot be replayed"
    return f"if no action waited; {percent_text(bound.over_ideal)} over ideal"


def _schedule(run: Run, state: ViewState) -> html.Section:
    """The card of one step's schedule, with the controls that choose the step."""
    steps = state.chosen(run.steps)
    at = _drawn_step(state, steps)
    schedule = step_schedule(run, at, _pipeline(run, state))
    tools = [
        *_neighbours(state, steps, at),
        view_select("Step", "pipeline-step", _STEP_KEY, [(str(s), str(s)) for s in steps], str(at)),
        *_timeline_link(state, schedule),
    ]
    return figure_card(
        "pipeline-grid",
        "Schedule of a step",
        "Boxes are actions with their microbatch. Above as measured; below replayed: the same "
        "actions, equally long and in the same order, none waiting for communication; last the "
        "plan, as theory has it: every stage takes the mean.",
        schedule_grid(schedule, state.theme),
        tools=tools,
    )


def _drawn_step(state: ViewState, steps: Sequence[int]) -> int:
    """The step of the URL if it is among `steps`, else the middle one."""
    asked = state.extra.get(_STEP_KEY, "")
    if asked.isdigit() and int(asked) in steps:
        return int(asked)
    return steps[len(steps) // 2]


def _neighbours(state: ViewState, steps: Sequence[int], at: int) -> list[html.A]:
    """Links to the steps before and after."""
    found = []
    position = steps.index(at)
    around = (("‹", "Previous step", position - 1), ("›", "Next step", position + 1))
    for text, title, there in around:
        if 0 <= there < len(steps):
            extra = {**state.extra, _STEP_KEY: str(steps[there])}
            link = view_link(
                text,
                PATH,
                replace(state, extra=extra),
                className="tool-button",
                title=title,
            )
            found.append(link)
    return found


def _timeline_link(state: ViewState, schedule: StepSchedule) -> list[html.A]:
    if schedule.window_start is None:
        return []
    view = replace(state, window=schedule.window, extra={})
    return [view_link("Open in the timeline", timeline.PATH, view, className="tool-link")]


def _pipeline(run: Run, state: ViewState) -> str:
    """The pipeline that the URL names, else the first."""
    known = list(pipelines(run))
    asked = state.extra.get(_PIPELINE_KEY, "")
    return asked if asked in known else known[0]


def _pipeline_choice(run: Run, state: ViewState) -> list[Any]:
    known = list(pipelines(run))
    if len(known) < _ALONE:
        return []
    options = [(name, name) for name in known]
    chosen = _pipeline(run, state)
    return [view_select("Pipeline", "pipeline-choice", _PIPELINE_KEY, options, chosen)]


def _without_pipeline() -> html.Div:
    return empty_page(
        "No pipeline in these steps",
        [
            "Forward and backward work with a stage and a microbatch is recorded from the "
            "schedules of torch.distributed.pipelining. Pass the schedule to the tracer, ",
            html.Code("Tracer(…, schedule=schedule)"),
            ", or record with ",
            html.Code("python -m tracer"),
            ", which finds it.",
        ],
        "Without a pipeline there is no bubble: the Overview says where the time goes, and "
        "Stragglers who holds up whom.",
    )
