"""Which row of its lane each event takes, so that no two events of a row overlap."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_CHAINS: Final = 16
"""Rows that are filled one after the other: each costs a look at all events that are left, which
beyond that is dearer than a heap."""


def nesting_depth(start: Ints, end: Ints) -> Ints:
    """The first row that is free for each event; events come sorted by (start, -end).

    Nested events get one row more than what encloses them, as do events that overlap otherwise:

        start 0  2  5  12        depth 0  1  1  0
        end  10  4  8  20

    Whether a row is free depends on what lies in that row alone. So the first row can be filled
    before the others are thought of: with the first event, the next one that begins when that has
    ended, and so on. Then the second row is filled with what is left.
    """
    depth = np.zeros(len(start), np.int64)
    left = np.arange(len(start))
    for row in range(_CHAINS):
        begins, ends = start[left], end[left]
        depth[left] = row
        if bool(np.all(begins[1:] >= np.maximum.accumulate(ends)[:-1])):
            return depth
        left = np.delete(left, _chain(begins, ends))
    depth[left] = _CHAINS + _by_heap(start[left], end[left])
    return depth


def _chain(start: Ints, end: Ints) -> list[int]:
    """The first event, the next one that begins at its end or later, and so on."""
    # an event without duration ends where it begins, and would otherwise follow itself
    following = np.maximum(np.searchsorted(start, end), np.arange(1, len(start) + 1)).tolist()
    chain, at, end_of_all = [], 0, len(following)
    while at < end_of_all:
        chain.append(at)
        at = following[at]
    return chain


def _by_heap(start: Ints, end: Ints) -> Ints:
    """The first free row of each, event by event."""
    depth = np.zeros(len(start), np.int64)
    free: list[int] = []
    taken: list[tuple[int, int]] = []
    for index, (begins, ends) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        while taken and taken[0][0] <= begins:
            heappush(free, heappop(taken)[1])
        # rows 0 … len(free) + len(taken) - 1 exist, each in one of the two heaps
        row = heappop(free) if free else len(taken)
        depth[index] = row
        heappush(taken, (ends, row))
    return depth
