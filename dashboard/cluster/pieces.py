"""What one task reads: a long rank in some of its steps, or several short ranks in all of them.

Whoever hands out tasks (a Dask scheduler: a millisecond for each) must not be what everybody waits
for, so their number follows the events and not the ranks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dashboard.runs import Recording

EVENTS_PER_TASK: Final = 2_000_000
"""At most: of one rank, some 500 MB while they are looked at, and a few seconds of work."""
EVENTS_HERE: Final = 250_000
"""The same where one process does all tasks: as many as of the ranks that share one, so that a task
takes less memory than a replay (half a million events), however long the run is."""
EVENTS_IN_TURN: Final = 125_000
"""The same of sums that are added as they come: parts of half the size take no more time, and half
of the memory."""
FEWEST_EVENTS: Final = 125_000
"""Of the ranks that share a task: a second of work."""
TASKS: Final = 2_048
"""As many are made before they get larger than `FEWEST_EVENTS`: for hundreds of workers each has
several, so that none waits long for the last one."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Piece:
    """Neighbouring ranks, in one of the windows of steps (`place`: which)."""

    ranks: tuple[int, ...]
    place: int
    steps: tuple[int, ...]


def pieces_of(
    run: Recording,
    steps: tuple[int, ...],
    steps_per_task: int | None,
    aligned: int,
    *,
    most_events: int = EVENTS_PER_TASK,
) -> list[Piece]:
    """All ranks in `steps`, in order of rank, and of step within a rank. steps_per_task: a task
    takes so many of one rank. aligned: of so many neighbouring ranks, pieces that share them have
    an equal number if that can be. most_events: of one task.

    8 ranks of 30 events, when a task may have 70 → pieces of 2 ranks each.
    """
    per_step = max(run.event_count / max(len(run.ranks) * len(run.steps), 1), 1e-9)
    if steps_per_task is None:
        whole = per_step * len(steps)
        windows = _evenly(steps, max(-(-int(whole) // most_events), 1))
        most = min(max(whole * len(run.ranks) / TASKS, FEWEST_EVENTS), most_events)
        together = max(int(most / whole), 1)
    else:
        windows = [steps[at : at + steps_per_task] for at in range(0, len(steps), steps_per_task)]
        together = 1
    count = _dividing(aligned, together)
    return [
        Piece(ranks=run.ranks[at : at + count], place=place, steps=window)
        for at in range(0, len(run.ranks), count)
        for place, window in enumerate(windows)
    ]


def bundles(
    pieces: Sequence[Piece], groups: Collection[tuple[int, ...]]
) -> dict[tuple[int, ...], list[int]]:
    """Which groups of ranks lie in the same pieces: by the places of these, the groups' places.

    Pieces 0: ranks 0, 1 and 1: ranks 2, 3; groups (0, 2), (1, 3) and (0, 1) → both pieces have the
    groups 0 and 1 together, and piece 0 has group 2 by itself.
    """
    of_rank: dict[int, list[int]] = {}
    for number, piece in enumerate(pieces):
        for rank in piece.ranks:
            of_rank.setdefault(rank, []).append(number)
    found: dict[tuple[int, ...], list[int]] = {}
    for place, ranks in enumerate(groups):
        key = tuple(sorted({number for rank in ranks for number in of_rank[rank]}))
        found.setdefault(key, []).append(place)
    return found


def _evenly(steps: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    length = -(-len(steps) // count)
    return [steps[at : at + length] for at in range(0, len(steps), length)]


def _dividing(whole: int, most: int) -> int:
    """The largest number up to `most` that divides `whole`, if it is not less than half of it."""
    fitting = (count for count in range(most, most // 2, -1) if whole % count == 0)
    return next(fitting, most)
