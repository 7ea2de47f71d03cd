"""What-if, put together: sliders and selects, the predicted step time, and the predicted step.

A choice of other durations is replayed; another schedule or number of microbatches is carried out
by the step model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dash import ClientsideFunction, Dash, Input, State, dcc, html

from dashboard.analysis.pipeline.actions import pipelines
from dashboard.analysis.pipeline.plans import SCHEDULES
from dashboard.analysis.replay.other_plans import has_plans, plan_like, usual_other_plans
from dashboard.analysis.replay.predicted_step import planned_step, replayed_step
from dashboard.analysis.replay.scenarios import (
    Scenario,
    as_recorded,
    balanced_stages,
    faster_communication,
    no_stragglers,
    stage_takes,
    stage_totals,
    together,
)
from dashboard.analysis.replay.whatif import dimensions, what_if
from dashboard.figures.schedule import predicted_grid
from dashboard.figures.units import NO_BREAK, percent_text, time_text
from dashboard.pages.markup import (
    card,
    dashed,
    figure_card,
    notice,
    tile,
    view_link,
    view_select,
)
from dashboard.pages.state import ViewState
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.analysis.pipeline.plans import Plan
    from dashboard.analysis.replay.graph import Graph
    from dashboard.analysis.replay.other_plans import PlanPrediction
    from dashboard.analysis.replay.predicted_step import PredictedStep
    from dashboard.analysis.replay.whatif import WhatIf
    from dashboard.run import Run

_AS_RECORDED: Final = ("", "as recorded")
_SHARES: Final = (25, 200)
"""Percent of its time that a stage may be chosen to take."""
_SHARE_STEP: Final = 5
_WHOLE: Final = 100
_FREE: Final = 11
"""The slider's last place, after ten times as fast: takes no time."""
_MORE_MICROBATCHES: Final = 4
"""Times as many as recorded may be chosen."""
_ONLY_PIPELINE: Final = (
    "With another plan only the pipeline's own links can be made faster: the step model takes "
    "other communication as it was recorded."
)
_PATH: Final = "/whatif"
_DIMENSIONS: Final = ("tp", "pp", "dp", "other")
_DURATIONS: Final = ("straight", "balance", "stage", "takes")
_KEYS: Final = (*_DURATIONS, "plan", "m", *(f"comm_{dim}" for dim in _DIMENSIONS))


def composed(
    run: Run, steps: Sequence[int], graph: Graph, state: ViewState
) -> html.Section | html.Div:
    """The card of choices, and below it what is predicted of them."""
    chosen = [*_chosen(graph, state.extra)]
    choices = card(
        "Put together",
        "All that is chosen here at once. What waits for what stays as recorded, durations change; "
        "another schedule or number of microbatches is carried out by the step model.",
        html.Div([*_selects(run, graph, state.extra)], className="choosers"),
        html.Div([*_sliders(run, graph, state.extra)], className="sliders"),
        tools=[_reset(state)] if state.extra.keys() & {*_KEYS} else [],
    )
    try:
        plan = _plan(run, state.extra)
        if plan is not None:
            shown = _carried_out(run, steps, together(chosen), plan, state)
        elif chosen:
            shown = _replayed(run, steps, together(chosen), state)
        else:
            return choices
        return html.Div([choices, *shown], className="page-stack")
    except UsageError as error:
        return html.Div([choices, notice(f"{error}.")], className="page-stack")


def register_choices(app: Dash) -> None:
    """Each slider writes its key of the URL (assets/pages.js)."""
    for key in ("takes", "m", *(f"comm_{dim}" for dim in _DIMENSIONS)):
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("pages", "slide"),
            Input(f"whatif-{key}", "value"),
            State(f"whatif-usual-{key}", "data"),
        )


def signed(share: float) -> str:
    """0.012 → `+1.2 %`, with a true minus."""
    return f"{100 * share:+.1f}{NO_BREAK}%".replace("-", "−")


def _reset(state: ViewState) -> html.A:
    kept = {key: value for key, value in state.extra.items() if key not in _KEYS}
    return view_link("Back to what was recorded", _PATH, replace(state, extra=kept))


def _replayed(
    run: Run, steps: Sequence[int], scenario: Scenario, state: ViewState
) -> Iterator[Any]:
    yield html.Div(_tiles(what_if(run, [scenario], steps)), className="tiles")
    yield from _drawn(replayed_step(run, scenario, _ranks(run), steps), state)


def _carried_out(
    run: Run, steps: Sequence[int], scenario: Scenario, plan: Plan, state: ViewState
) -> Iterator[Any]:
    plans = run.answer(usual_other_plans, steps)
    prediction, step = planned_step(run, scenario, plan, _ranks(run), steps)
    tiles = _plan_tiles(prediction, plans.measured_ns, plans.recorded, plans.model_error)
    yield html.Div(tiles, className="tiles")
    if any(_times(state.extra, dim) not in (None, 1) for dim in _DIMENSIONS if dim != "pp"):
        yield html.Div(_ONLY_PIPELINE, className="card muted")
    yield from _drawn(step, state)


def _ranks(run: Run) -> tuple[int, ...]:
    """Of the first pipeline, which stands for the others."""
    return next(iter(pipelines(run).values()))


def _drawn(step: PredictedStep, state: ViewState) -> Iterator[html.Section]:
    if step.measured.num_rows and step.predicted.num_rows:
        yield figure_card(
            "whatif-step",
            "The step, measured and predicted",
            f"Step {step.step}, whose time is nearest to the median. Boxes are actions with their "
            "microbatch, above as measured and below as predicted, on one scale.",
            predicted_grid(step, state.theme),
        )


def _chosen(graph: Graph, extra: Mapping[str, str]) -> Iterator[Scenario]:
    """What the URL says; values that are none of the choices are left out."""
    if extra.get("straight"):
        yield no_stragglers()
    if extra.get("balance"):
        yield balanced_stages()
    takes = _number(extra.get("takes", ""), *_SHARES)
    if _stage(graph, extra) and takes not in (None, _WHOLE):
        yield stage_takes(int(_stage(graph, extra)), takes / _WHOLE)
    for dim in dimensions(graph):
        times = _times(extra, dim)
        if times is not None and times > 1:
            yield faster_communication(dim, float("inf") if times == _FREE else times)


def _number(text: str, least: int, most: int) -> int | None:
    found = int(text) if text.isdecimal() and len(text) < 6 else None
    return found if found is not None and least <= found <= most else None


def _times(extra: Mapping[str, str], dim: str) -> int | None:
    text = extra.get(f"comm_{dim}", "")
    return _FREE if text == "free" else _number(text, 1, _FREE)


def _plan(run: Run, extra: Mapping[str, str]) -> Plan | None:
    """The plan of the URL; None where it is the recorded one.

    Raises:
        UsageError: the schedule cannot have these sizes.
    """
    recorded = run.meta.schedule
    if recorded is None or not has_plans(run):
        return None
    schedule = extra.get("plan", "")
    schedule = schedule if schedule in SCHEDULES and schedule != recorded.name else ""
    m = _number(extra.get("m", ""), 1, _MORE_MICROBATCHES * recorded.microbatches)
    m = None if m == recorded.microbatches else m
    return plan_like(run, schedule=schedule or None, m=m) if schedule or m else None


def _stage(graph: Graph, extra: Mapping[str, str]) -> str:
    """The stage that the slider is for: the URL's, else the slowest; nothing without stages."""
    totals = stage_totals(graph, as_recorded(graph))
    if len(totals) < 2:
        return ""
    slowest = str(max(totals, key=lambda stage: totals[stage]))
    asked = extra.get("stage", "")
    return asked if asked in map(str, totals) else slowest


def _selects(run: Run, graph: Graph, extra: Mapping[str, str]) -> Iterator[html.Label]:
    def select(
        label: str, key: str, options: Sequence[tuple[str, str]], at: str = ""
    ) -> html.Label:
        return view_select(label, f"whatif-{key}", key, options, extra.get(key, at))

    yield select("stragglers", "straight", [_AS_RECORDED, ("1", "none")])
    stages = [str(stage) for stage in stage_totals(graph, as_recorded(graph))]
    if len(stages) > 1:
        yield select("stages", "balance", [_AS_RECORDED, ("1", "balanced")])
        options = [(stage, stage) for stage in stages]
        yield select("slider for stage", "stage", options, _stage(graph, extra))
    if has_plans(run):
        names = [(name, name.removeprefix("Schedule")) for name in SCHEDULES]
        recorded = run.meta.schedule
        others = [(name, said) for name, said in names if recorded and name != recorded.name]
        yield select("schedule", "plan", [_AS_RECORDED, *others])


def _sliders(run: Run, graph: Graph, extra: Mapping[str, str]) -> Iterator[html.Div]:
    stage = _stage(graph, extra)
    if stage:
        low, high = _SHARES
        at = _number(extra.get("takes", ""), low, high) or _WHOLE
        marks = {value: f"{value} %" for value in (low, 50, _WHOLE, 150, high)}
        span = (low, high, _SHARE_STEP)
        yield _slider(f"stage {stage} takes", f"{at} %", "takes", span, at, _WHOLE, marks)
    for dim in dimensions(graph):
        marks = {1: "as is", **{times: f"{times}×" for times in (2, 4, 6, 8)}, _FREE: "free"}
        at = _times(extra, dim) or 1
        said = marks[at] if at in (1, _FREE) else f"{at}× as fast"
        yield _slider(f"{dim} links", said, f"comm_{dim}", (1, _FREE, 1), at, 1, marks)
    recorded = run.meta.schedule
    if recorded is not None and has_plans(run):
        usual = recorded.microbatches
        most = _MORE_MICROBATCHES * usual
        at = _number(extra.get("m", ""), 1, most) or usual
        marks = {value: str(value) for value in (1, usual, 2 * usual, most)}
        yield _slider("microbatches", str(at), "m", (1, most, 1), at, usual, marks)


def _slider(
    label: str,
    said: str,
    key: str,
    span: tuple[int, int, int],
    at: int,
    usual: int,
    marks: Mapping[int, str],
) -> html.Div:
    low, high, step = span
    slider = dcc.Slider(
        min=low,
        max=high,
        step=step,
        value=at,
        marks=dict(marks),
        id=f"whatif-{key}",
        updatemode="mouseup",
        allow_direct_input=False,
        tooltip={"placement": "top", "always_visible": False},
    )
    return html.Div(
        [
            html.Span([f"{label} ", html.Strong(said)], className="muted"),
            slider,
            dcc.Store(id=f"whatif-usual-{key}", data=usual),
        ],
        className="slider",
        **dashed(data_label=label),
    )


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


def _plan_tiles(
    found: PlanPrediction, measured_ns: float, recorded: PlanPrediction, error: float
) -> list[Any]:
    name = found.schedule.removeprefix("Schedule")
    said = f"p {found.p}, m {found.m}" + (f", v {found.v}" if found.v > 1 else "")
    change = found.microbatch_ns / recorded.microbatch_ns - 1
    return [
        tile(
            "step",
            time_text(found.step_ns),
            f"measured {time_text(measured_ns)}; the model is {signed(error)} off there",
        ),
        tile(
            "per microbatch",
            time_text(found.microbatch_ns),
            f"{signed(change)} against the recorded plan, both predicted",
        ),
        tile(
            "bubble",
            percent_text(found.bubble_fraction_of_window),
            f"recorded plan {percent_text(recorded.bubble_fraction_of_window)}",
        ),
        tile("plan", name, "; ".join([said, *found.assumed])),
    ]
