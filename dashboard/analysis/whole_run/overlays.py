"""What the timeline draws over and between the lanes of a window: bubbles, the plan, counters."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.memory.memory import ALLOCATED, RESIDENT
from dashboard.analysis.pipeline.actions import pipelines
from dashboard.analysis.pipeline.bubble_spans import bubble_spans
from dashboard.analysis.pipeline.schedule import step_schedule
from dashboard.analysis.steps import step_windows

if TYPE_CHECKING:
    from dashboard.runs import Recording

MOST_STEPS: Final = 8
"""Steps whose plan is drawn at once: with more of them its boxes are a few pixels wide."""
DRAWN_COUNTERS: Final = (ALLOCATED, RESIDENT, "sm/percent", "power/W")
"""As many as a rank has room for; the others are in SQL and on the Memory page."""
_LEAST_PIXELS: Final = 0.5
"""A bubble shorter than this is less than the rounding of its edges."""


def bubbles_between(run: Recording, start: int, end: int, width: int) -> list[list[Any]]:
    """[rank, start, end, part] of the bubbles that overlap [start, end) ns and would be at least
    half a pixel wide, `width` pixels being there.
    """
    table = run.answer(bubble_spans)
    begin, length = table["start"].to_numpy(), table["duration"].to_numpy()
    inside = (begin < end) & (begin + length > start)
    seen = table.filter(pa.array(inside & (length * width >= _LEAST_PIXELS * (end - start))))
    columns = (seen[name].to_pylist() for name in ("rank", "start", "duration", "part"))
    return [
        [rank, at, at + duration, part] for rank, at, duration, part in zip(*columns, strict=True)
    ]


def plan_between(run: Recording, start: int, end: int) -> dict[str, Any]:
    """The plan with equally long stages of every step that overlaps [start, end) ns: `actions` as
    [rank, start, end, kind, microbatch], and `said`, why there are none.
    """
    none = "this run has no schedule that a plan can be made of"
    if run.meta.schedule is None:
        return {"actions": [], "said": none}
    steps = _steps_between(run, start, end)
    if len(steps) > MOST_STEPS:
        return {"actions": [], "said": f"the plan is drawn for up to {MOST_STEPS} steps: zoom in"}
    actions = [action for step in sorted(steps) for action in run.answer(_planned, [step])]
    return {"actions": actions, "said": none if steps and not actions else ""}


def _planned(run: Recording, steps: Collection[int]) -> list[list[Any]]:
    """[rank, start, end, kind, microbatch] of the plan of each pipeline, from where it began."""
    found = [step_schedule(run, step, group) for step in sorted(steps) for group in pipelines(run)]
    return [
        [
            row["rank"],
            at := first + row["start"],
            at + row["duration"],
            row["kind"],
            row["microbatch"],
        ]
        for schedule in found
        if (first := schedule.window_start) is not None
        for row in schedule.planned.to_pylist()
    ]


def _steps_between(run: Recording, start: int, end: int) -> Collection[int]:
    """Complete steps of which some rank's window overlaps [start, end)."""
    windows = run.answer(step_windows)
    begin, length = windows["start"].to_numpy(), windows["duration"].to_numpy()
    overlaps = (begin < end) & (begin + length > start)
    return set(windows["step"].to_numpy()[overlaps].tolist())


def counters_between(run: Recording, start: int, end: int, width: int) -> list[dict[str, Any]]:
    """`DRAWN_COUNTERS` of every rank in [start, end) ns, one value beyond on either side: `rank`,
    `name`, `unit`, `most` (of the whole run, all ranks) and `points`, [ns, value], of each pixel
    the largest.
    """
    table = run.counters
    found = []
    for name in DRAWN_COUNTERS:
        named = table.filter(pc.equal(table["name"].cast(pa.string()), name))
        most = pc.max(named["value"]).as_py()
        title, _, unit = name.partition("/")
        for rank in sorted(pc.unique(named["rank"]).to_pylist()):
            mine = named.filter(pc.equal(named["rank"], rank)).sort_by("ts")
            points = _largest(mine["ts"].to_numpy(), mine["value"].to_numpy(), start, end, width)
            found.append(
                {"rank": rank, "name": title, "unit": unit, "most": most, "points": points}
            )
    return found


def _largest(
    time: np.ndarray[Any, Any], value: np.ndarray[Any, Any], start: int, end: int, width: int
) -> list[list[float]]:
    """Of the samples of each pixel the largest; those just outside of the window as they are."""
    first = max(int(np.searchsorted(time, start, side="right")) - 1, 0)
    last = min(int(np.searchsorted(time, end)) + 1, len(time))
    time, value = time[first:last], value[first:last]
    pixel = (time - start) * width // (end - start)
    order = np.lexsort((-value, pixel))
    _, places = np.unique(pixel[order], return_index=True)
    kept = np.sort(order[places])
    return [[int(at), float(much)] for at, much in zip(time[kept], value[kept], strict=True)]
