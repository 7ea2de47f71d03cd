"""Pipeline: how large the bubbles are, against theory and plan, where they sit and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dash import html

from dashboard.analysis.actions import pipeline_actions
from dashboard.figures.pipeline import (
    bubble_by_step,
    bubble_heatmap,
    bubble_parts,
    schedule_grid,
    stall_culprits,
)
from dashboard.pages.markup import card, graph, view_select

if TYPE_CHECKING:
    from dashboard.analysis.theory import Theory
    from dashboard.pages.state import ViewState
    from dashboard.runs import Run

TITLE: Final = "Pipeline"
PATH: Final = "/pipeline"
_STEP_KEY: Final = "at"
"""Key of the URL for the step whose schedule is drawn."""


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    bubbles = run.bubbles(steps)
    if not bubbles.steps.num_rows:
        return _empty()
    drawn = _drawn_step(state, steps)
    theme = state.theme
    return html.Div(
        [
            card(
                "Bubble per step",
                "Idle share of the pipeline window. Above the plan bound: waiting for "
                "communication and the host. Plan bound above theory: unequal stages. "
                + _theory(bubbles.theory),
                graph("pipeline-bubble", bubble_by_step(bubbles, theme)),
            ),
            card(
                "Schedule as it ran",
                "One step: a row per rank, a box per action, with its microbatch.",
                view_select(
                    "Step",
                    "pipeline-step",
                    _STEP_KEY,
                    [(str(step), str(step)) for step in steps],
                    str(drawn),
                ),
                graph("pipeline-grid", schedule_grid(pipeline_actions(run, [drawn])[drawn], theme)),
            ),
            html.Div(
                [
                    card(
                        "Where the bubble sits",
                        "Before a stage's first action, between actions, after its last.",
                        graph("pipeline-parts", bubble_parts(bubbles, theme)),
                    ),
                    card(
                        "Who waited for whom",
                        "Stalls between actions, by the rank whose message ended them.",
                        graph("pipeline-culprits", stall_culprits(bubbles, theme)),
                    ),
                ],
                className="grid-2",
            ),
            card(
                "Bubble per stage and step",
                "",
                graph("pipeline-heatmap", bubble_heatmap(bubbles, theme)),
            ),
        ],
        className="page-stack",
    )


def _drawn_step(state: ViewState, steps: Sequence[int]) -> int:
    """The step of the URL if it is among `steps`, else the middle one."""
    asked = state.extra.get(_STEP_KEY, "")
    if asked.isdigit() and int(asked) in steps:
        return int(asked)
    return steps[len(steps) // 2]


def _theory(theory: Theory | None) -> str:
    if theory is None:
        return ""
    if theory.fraction_of_window is None:
        return f"Theory of {theory.schedule}: {theory.note}."
    return f"Theory of {theory.schedule}: {theory.fraction_of_window:.1%} ({theory.source})."


def _empty() -> html.Div:
    return html.Div(
        "This run has no pipeline actions in these steps. They are recorded from "
        "torch.distributed.pipelining schedules; the other pages work without.",
        className="card empty",
    )
