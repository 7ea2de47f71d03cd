"""Which row of its lane each event takes, so that no two events of a row overlap."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.segments import ranges

Ints = NDArray[np.int64]

_CHAINS: Final = 16
"""Rows that are filled one after the other: each costs a look at all events that are left, which
beyond that is dearer than a heap."""


def nesting_depth(start: Ints, end: Ints, taken_until: Sequence[int] = ()) -> Ints:
    """The first row that is free for each event; events come sorted by (start, -end).

    Nested events get one row more than what encloses them, as do events that overlap otherwise:

        start 0  2  5  12        depth 0  1  1  0
        end  10  4  8  20

    Whether a row is free depends on what lies in that row alone. So the first row can be filled
    before the others are thought of: with the first event, the next one that begins when that has
    ended, and so on. Then the second row is filled with what is left.

    taken_until: the last end in each row that has events from before these.
    """
    depth = np.zeros(len(start), np.int64)
    left = np.arange(len(start))
    for row in range(_CHAINS):
        if not len(left):
            return depth
        begins, ends = start[left], end[left]
        depth[left] = row
        free = taken_until[row] if row < len(taken_until) else int(begins[0])
        if begins[0] >= free and bool(np.all(begins[1:] >= np.maximum.accumulate(ends)[:-1])):
            return depth
        left = np.delete(left, _chain(begins, ends, free))
    depth[left] = _CHAINS + _by_heap(start[left], end[left], taken_until[_CHAINS:])
    return depth


def _chain(start: Ints, end: Ints, free: int) -> Ints:
    """The first event that begins when the row is free, the next one that begins at its end or
    later, and so on.
    """
    # an event without duration ends where it begins, and would otherwise follow itself
    after = np.arange(1, len(start) + 1)
    following = np.maximum(np.searchsorted(start, end), after)
    # most are followed by the one beside them: only where others lie between is a step to be made
    jumps = np.flatnonzero(following > after)
    target = following[jumps]
    next_jump = np.searchsorted(jumps, target).tolist()
    first = int(np.searchsorted(start, free))
    at, taken = int(np.searchsorted(jumps, first)), []
    while at < len(next_jump):
        taken.append(at)
        at = next_jump[at]
    begins = np.concatenate([np.array([first]), target[taken]])
    return ranges(begins, np.concatenate([jumps[taken] + 1, np.array([len(start)])]))


def _by_heap(start: Ints, end: Ints, taken_until: Sequence[int]) -> Ints:
    """The first free row of each, event by event."""
    depth = np.zeros(len(start), np.int64)
    free: list[int] = []
    taken = [(until, row) for row, until in enumerate(taken_until)]
    heapify(taken)
    for index, (begins, ends) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        while taken and taken[0][0] <= begins:
            heappush(free, heappop(taken)[1])
        # rows 0 … len(free) + len(taken) - 1 exist, each in one of the two heaps
        row = heappop(free) if free else len(taken)
        depth[index] = row
        heappush(taken, (ends, row))
    return depth
