"""Searching many sorted pieces of one array at once, without touching more of it than needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
At = Callable[[Ints], NDArray[Any]]
"""The values at some places: `array.__getitem__`, or what looks them up elsewhere."""


def first_at_or_after(values: At, low: Ints, high: Ints, wanted: int) -> Ints:
    """Per piece `low[i] … high[i] - 1` of the values, each sorted: the place of its first value
    that is not below `wanted`, `high[i]` if there is none. All pieces are halved together, so that
    a memory map is read at some log2(length) places of each.

        values 1 5 9 | 2 3      wanted 4      low 0 3, high 3 5      → 1 5
    """
    low, high = low.copy(), high.copy()
    searched = np.flatnonzero(low < high)
    while len(searched):
        middle = (low[searched] + high[searched]) >> 1
        below = values(middle) < wanted
        low[searched[below]] = middle[below] + 1
        high[searched[~below]] = middle[~below]
        searched = searched[low[searched] < high[searched]]
    return low


def touching(
    start: At, duration: At, low: Ints, high: Ints, begin: int, end: int
) -> tuple[Ints, Ints]:
    """Per piece of events that do not overlap, sorted: the first and the end of those that touch
    `begin` to `end` (ns). One that ends at `begin` does not.
    """
    first = first_at_or_after(start, low, high, begin)
    last = first_at_or_after(start, first, high, end)
    before = np.flatnonzero(first > low)
    reaching = start(first[before] - 1) + duration(first[before] - 1) > begin
    first[before[reaching]] -= 1
    return first, last


def ranges(first: Ints, end: Ints) -> Ints:
    """`first[0] … end[0] - 1, first[1] … end[1] - 1, …` in one array."""
    counts = end - first
    shift = np.repeat(first - np.concatenate([[0], np.cumsum(counts)])[:-1], counts)
    places: Ints = np.arange(int(counts.sum()), dtype=np.int64) + shift
    return places
