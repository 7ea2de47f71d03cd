"""The steps of a run's timeline: of all ranks together, and those that a window has room for.

A page gets them window by window: a run may have millions (a thousand ranks for an hour).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.lanes import Ints, Timeline
from dashboard.timeline.window import Window

_LEAST_PIXELS: Final = 8
"""Where a rank's steps are narrower, their edges would hide what lies between them."""


@dataclass(kw_only=True, slots=True, frozen=True)
class AllSteps:
    """Each step of the run by `number`, ascending: from the first rank's `start` to the last rank's
    `end`, ns from the run's start. `told`: the last one that every rank with steps has, or None.
    """

    number: Ints
    start: Ints
    end: Ints
    told: int | None


@dataclass(kw_only=True, slots=True, frozen=True)
class ShownSteps:
    """Steps of single ranks; `start` is ns from the window's, `duration` ns."""

    rank: Ints
    number: Ints
    start: Ints
    duration: Ints


def all_steps(timeline: Timeline) -> AllSteps:
    """The steps of all ranks together."""
    _, step, start, duration = timeline.steps.T
    number, place = np.unique(step, return_inverse=True)
    first = np.full(len(number), np.iinfo(np.int64).max)
    last = np.full(len(number), np.iinfo(np.int64).min)
    np.minimum.at(first, place, start)
    np.maximum.at(last, place, start + duration)
    told = min((int(step[of].max()) for of in timeline.steps_of.values()), default=None)
    return AllSteps(number=number, start=first, end=last, told=told)


def steps_in(timeline: Timeline, window: Window, width: float) -> ShownSteps:
    """The steps that reach into the window, of each rank that has rows in it; none of a rank where
    they would be narrower than `_LEAST_PIXELS`, of the `width` that the window has on the screen.
    """
    ranks = dict.fromkeys(
        lane.rank
        for lane in timeline.lanes
        if lane.first_row < window.end_row and lane.first_row + lane.rows > window.first_row
    )
    parts = [
        _of_rank(timeline.steps[timeline.steps_of[rank]], window, width)
        for rank in ranks
        if rank in timeline.steps_of
    ]
    rank, number, start, duration = np.concatenate([np.zeros((0, 4), np.int64), *parts]).T
    return ShownSteps(rank=rank, number=number, start=start - window.start, duration=duration)


def _of_rank(steps: NDArray[np.int64], window: Window, width: float) -> NDArray[np.int64]:
    places = range(len(steps))
    first = bisect_left(places, window.start + 1, key=lambda at: steps[at, 2] + steps[at, 3])
    end = bisect_left(places, window.end, key=lambda at: steps[at, 2])
    return steps[first : end if (end - first) * _LEAST_PIXELS <= width else first]
