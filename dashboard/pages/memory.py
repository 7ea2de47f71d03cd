"""Memory: how much each rank takes, when, and how many microbatches it holds meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dash import html

from dashboard.analysis.memory.memory import RESIDENT, is_sampled
from dashboard.analysis.memory.memory_summary import MemoryFigures, memory_figures
from dashboard.figures.memory import memory_over_time, memory_peaks
from dashboard.figures.units import NO_BREAK, byte_text
from dashboard.pages import timeline
from dashboard.pages.markup import (
    address,
    empty_page,
    figure_card,
    no_steps,
    table_card,
    tile,
)

if TYPE_CHECKING:
    from dashboard.analysis.memory.memory import Memory
    from dashboard.pages.state import ViewState
    from dashboard.run import Run

TITLE: Final = "Memory"
PATH: Final = "/memory"

_AROUND_NS: Final = 50_000_000
"""Of the timeline on either side of the peak: some actions of most runs."""
_COLUMNS: Final = ("rank", "peak", "at", "mean", "microbatches held", "by the plan")
_NEVER: Final = (
    "This run has no counter of memory. Tracer records one at each flush, once a second by "
    "default; runs of older versions and imported ones have none."
)
_NOT_THEN: Final = (
    "No memory was sampled in these steps. It is sampled at each flush, once a second by default: "
    "look at more steps, or record with Tracer(…, flush_interval_s=0.2)."
)
_OF_DEVICE: Final = "This is what torch's allocator held on the device."
_OF_PROCESS: Final = (
    "No device was used: this is the resident memory of each process, in which the interpreter "
    "and the libraries are, too."
)


def layout(runs: Sequence[Run], state: ViewState) -> html.Div:
    """The page for the chosen run and steps."""
    run = runs[state.run]
    steps = state.chosen(run.steps)
    if not steps:
        return no_steps(run, state, PATH)
    found = run.memory(steps)
    if found.counter is None and not found.in_flight.num_rows:
        return empty_page("No memory to show", _why_none(run))
    return html.Div(
        [
            *([html.Div(_why_none(run), className="card muted")] if found.counter is None else []),
            html.Div(_tiles(memory_figures(run, found), state), className="tiles"),
            figure_card("memory-peaks", *_words_of_peaks(found), memory_peaks(found, state.theme)),
            figure_card(
                "memory-timeline",
                f"{_what(found)} over time",
                "A microbatch is held from its forward on a stage to its backward there. The ranks "
                "with the highest peaks, at most twelve.",
                memory_over_time(found, state.theme),
            ),
            _table(found),
        ],
        className="page-stack",
    )


def _why_none(run: Run) -> str:
    return _NOT_THEN if is_sampled(run) else _NEVER


def _what(found: Memory) -> str:
    return "Microbatches held" if found.counter is None else "Memory and microbatches held"


def _words_of_peaks(found: Memory) -> tuple[str, str]:
    """Title and note of the figure of peaks."""
    held = "the most microbatches held at once; a diamond: by the plan."
    if found.counter is None:
        return "Microbatches held per rank", held[0].upper() + held[1:]
    whose = _OF_PROCESS if found.counter == RESIDENT else _OF_DEVICE
    return "Peak per rank", f"Bars are the peak, ticks the mean. {whose} Beside it {held}"


def _tiles(figures: MemoryFigures, state: ViewState) -> list[Any]:
    tiles = []
    if figures.peak_bytes is not None and figures.peak_at is not None:
        usual = figures.usual_bytes
        said = f"rank {figures.peak_rank}"
        if usual:
            excess = 100 * (figures.peak_bytes / usual - 1)
            said += f", {excess:+.0f}{NO_BREAK}% against the others' median"
        tiles.append(tile("Highest peak", byte_text(figures.peak_bytes), said))
        around = replace(state, window=_around(figures.peak_at), extra={})
        step = "between steps" if figures.peak_step is None else f"in step {figures.peak_step}"
        when = f"{figures.peak_at / 1e9:,.3f}{NO_BREAK}s"
        tiles.append(tile("When", when, step, address(timeline.PATH, around)))
    if figures.held is not None:
        said = f"rank {figures.held_rank}"
        if figures.planned is not None:
            said += f"; {figures.planned} by the plan"
        tiles.append(tile("Most microbatches held", str(figures.held), said))
    return tiles


def _around(at: int) -> tuple[int, int]:
    return max(0, at - _AROUND_NS), at + _AROUND_NS


def _table(found: Memory) -> html.Section:
    rows = found.ranks.to_pylist()
    shown = [
        [
            f"rank {row['rank']}",
            byte_text(row["peak_bytes"]),
            "–" if row["peak_at"] is None else f"{row['peak_at'] / 1e9:,.3f}{NO_BREAK}s",
            byte_text(row["mean_bytes"]),
            str(row["peak_in_flight"]),
            "–" if row["plan_in_flight"] is None else str(row["plan_in_flight"]),
        ]
        for row in rows
    ]
    return table_card(
        "memory",
        "In numbers",
        "Over the chosen steps. A rank that holds more than by the plan runs ahead of its order.",
        _COLUMNS,
        shown,
        saved=rows,
    )
