"""Memory in a few numbers: who holds most, when that was, and what of it the plan needs."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from dashboard.analysis.memory.memory import Memory
    from dashboard.runs import Recording


@dataclass(kw_only=True, frozen=True)
class MemoryFigures(Result):
    """The headline figures; None where nothing was sampled, held or planned.

    peak_rank, peak_bytes: the rank with the highest peak (the lowest of several). peak_at: when,
        ns from the run's start; peak_step: the step window of that rank that it lies in.
    usual_bytes: the median peak of the other ranks; None with one rank.
    held_rank, held: who held most microbatches (times stages) at once, and how many;
        planned: what the schedule's plan holds there.
    """

    peak_rank: int | None = None
    peak_bytes: float | None = None
    peak_at: int | None = None
    peak_step: int | None = None
    usual_bytes: float | None = None
    held_rank: int | None = None
    held: int | None = None
    planned: int | None = None


def memory_figures(run: Recording, found: Memory) -> MemoryFigures:
    """Of the memory that was measured in `run`.

    Peaks of 300 (rank 0), 500 (rank 1) and 200 B → rank 1, 500 B, against 250 B usually.
    """
    return MemoryFigures(**_highest(run, found), **_most_held(found))


def _highest(run: Recording, found: Memory) -> dict[str, Any]:
    sampled = [row for row in found.ranks.to_pylist() if row["peak_bytes"] is not None]
    if not sampled:
        return {}
    most = max(sampled, key=lambda row: (row["peak_bytes"], -row["rank"]))
    others = [row["peak_bytes"] for row in sampled if row is not most]
    return {
        "peak_rank": most["rank"],
        "peak_bytes": most["peak_bytes"],
        "peak_at": most["peak_at"],
        "peak_step": _step_at(run, most["rank"], most["peak_at"]),
        "usual_bytes": median(others) if others else None,
    }


def _step_at(run: Recording, rank: int, at: int) -> int | None:
    steps = run.events(ranks=[rank], kinds=("step",), columns=("start", "duration", "step"))
    inside = pc.and_(
        pc.less_equal(steps["start"], at),
        pc.greater(pc.add(steps["start"], steps["duration"]), at),
    )
    found = steps.filter(inside)["step"].to_pylist()
    return found[0] if found else None


def _most_held(found: Memory) -> dict[str, Any]:
    rows = [row for row in found.ranks.to_pylist() if row["peak_in_flight"]]
    if not rows:
        return {}
    most = max(rows, key=lambda row: (row["peak_in_flight"], -row["rank"]))
    return {
        "held_rank": most["rank"],
        "held": most["peak_in_flight"],
        "planned": most["plan_in_flight"],
    }
