"""Compare, one step: both runs' ranks above each other on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.comparing.side_by_side import (
    MOST_RANKS,
    StepCourse,
    step_beside,
    step_course,
)
from dashboard.figures.side_by_side import steps_side_by_side
from dashboard.figures.units import time_text
from dashboard.pages import timeline
from dashboard.pages.markup import figure_card, view_link, view_select

if TYPE_CHECKING:
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

_KEY: Final = "at"
"""Key of the URL for the step that is drawn, as on the Pipeline page."""
_PATH: Final = "/compare"


def one_step(
    runs: Sequence[Run], state: ViewState, other: int, steps: tuple[Sequence[int], Sequence[int]]
) -> list[html.Section]:
    """The card of one step of the runs; nothing where one of them has none. `steps`: of A, of B."""
    if not all(steps):
        return []
    at = _chosen(state, steps[0])
    beside = step_beside(*steps, at)
    a, b = step_course(runs[state.run], at), step_course(runs[other], beside)
    same = "" if at == beside else f" Run B has no step {at}: its step {beside} stands beside it."
    return [
        figure_card(
            "compare-step",
            "One step of each, side by side",
            "Each rank's time by category, idle left blank, from the begin of the step. Both zoom "
            f"together.{same}{_left_out(runs[state.run], a)}{_left_out(runs[other], b)}",
            steps_side_by_side(a, b, ("A", "B"), state.theme),
            tools=[
                *_neighbours(state, steps[0], at),
                view_select(
                    "Step", "compare-at", _KEY, [(str(s), str(s)) for s in steps[0]], str(at)
                ),
                _in_timeline("A", state, state.run, a),
                _in_timeline("B", state, other, b),
            ],
        )
    ]


def _chosen(state: ViewState, steps: Sequence[int]) -> int:
    """The step of the URL if it is among `steps`, else the middle one."""
    asked = state.extra.get(_KEY, "")
    return int(asked) if asked.isdecimal() and int(asked) in steps else steps[len(steps) // 2]


def _neighbours(state: ViewState, steps: Sequence[int], at: int) -> list[html.A]:
    place = list(steps).index(at)
    around = (("‹", "Previous step", place - 1), ("›", "Next step", place + 1))
    return [
        view_link(
            text,
            _PATH,
            replace(state, extra={**state.extra, _KEY: str(steps[there])}),
            className="tool-button",
            title=title,
        )
        for text, title, there in around
        if 0 <= there < len(steps)
    ]


def _in_timeline(name: str, state: ViewState, run: int, found: StepCourse) -> Any:
    view = replace(state, run=run, window=(found.begin, found.end), selection=None, extra={})
    return view_link(f"{name} in the timeline", timeline.PATH, view, className="tool-link")


def _left_out(run: Run, found: StepCourse) -> str:
    """What the figure does not show of a run, in words."""
    said = ""
    if len(run.ranks) > MOST_RANKS:
        said += f" The first {MOST_RANKS} of {len(run.ranks)} ranks of {run.name}."
    if found.left_out:
        longest = time_text(found.left_out_ns)
        said += f" {found.left_out:,} stretches of up to {longest} of {run.name} are not drawn."
    return said
