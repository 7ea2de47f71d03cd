"""Sets of time as sorted disjoint half-open intervals: int64 arrays of shape (n, 2), in ns."""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Intervals: TypeAlias = npt.NDArray[np.int64]
_Rows: TypeAlias = npt.NDArray[np.int64]

EMPTY: Intervals = np.empty((0, 2), np.int64)


def intervals(starts: npt.ArrayLike, durations: npt.ArrayLike) -> Intervals:
    """The union of spans given by start and duration; spans of no duration vanish.

    `intervals([0, 5, 20], [10, 10, 3])` → `[[0, 15], [20, 23]]`
    """
    begin = np.asarray(starts, np.int64)
    return _merged(begin, begin + np.asarray(durations, np.int64))


def union(*sets: Intervals) -> Intervals:
    """All time that lies in any of the sets; the inputs may overlap and be unsorted."""
    spans = np.concatenate([EMPTY, *sets])
    return _merged(spans[:, 0], spans[:, 1])


def _merged(begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Intervals:
    some = end > begin
    if not some.all():
        begin, end = begin[some], end[some]
    if len(begin) == 0:
        return EMPTY
    if not (begin[1:] >= begin[:-1]).all():  # events mostly come in order
        order = np.argsort(begin, kind="stable")
        begin, end = begin[order], end[order]
    reach = np.maximum.accumulate(end)
    opens = np.flatnonzero(begin[1:] > reach[:-1]) + 1
    found = np.empty((len(opens) + 1, 2), np.int64)
    found[0, 0], found[-1, 1] = begin[0], reach[-1]
    found[1:, 0], found[:-1, 1] = begin[opens], reach[opens - 1]
    return found


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """The time that lies in both sets (each sorted and disjoint)."""
    return common(a, b)[0]


def common(a: Intervals, b: Intervals) -> tuple[Intervals, _Rows, _Rows]:
    """The time that lies in both sets, and of which interval of `a` and of `b` each part of it is,
    shape (n,), in this order. `a` is sorted and disjoint, `b` sorted by start: its intervals may
    overlap and lie in each other, and time in several of them is told for each. Intervals that
    touch may be told apart.

    `[[0, 10]]` and `[[2, 9], [3, 4], [8, 12]]` → `[[2, 9], [3, 4], [8, 10]]`, `[0, 0, 0]` and
    `[0, 1, 2]`
    """
    if len(a) == 0 or len(b) == 0:
        nothing = np.zeros(0, np.int64)
        return EMPTY, nothing, nothing
    if bool((b[1:, 1] >= b[:-1, 1]).all()):
        return _common(a, b)
    parts = []
    for rows in _ascending(b[:, 1]):
        found, left, right = _common(a, b[rows])
        parts.append((found, left, rows[right]))
    found, left, right = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((right, left))
    return found[order], left[order], right[order]


def _common(a: Intervals, b: Intervals) -> tuple[Intervals, _Rows, _Rows]:
    """The same where the ends of `b` ascend, too."""
    low = np.searchsorted(b[:, 1], a[:, 0], side="right")
    high = np.searchsorted(b[:, 0], a[:, 1], side="left")
    counts = np.maximum(high - low, 0)
    if counts.max() <= 1:
        left = np.flatnonzero(counts)
        right = low[left]
    else:
        left = np.repeat(np.arange(len(a)), counts)
        offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
        right = np.repeat(low, counts) + offsets
    found = np.empty((len(left), 2), np.int64)
    np.maximum(a[:, 0][left], b[:, 0][right], out=found[:, 0])
    np.minimum(a[:, 1][left], b[:, 1][right], out=found[:, 1])
    return found, left, right


def _ascending(ends: _Rows) -> list[_Rows]:
    """Rows in groups, as few as may be, in each of which the ends ascend.

    `[9, 4, 12, 5]` → `[0, 2]` and `[1, 3]`
    """
    groups: list[list[int]] = []
    last: list[int] = []  # of each group its last end, negated: these ascend
    for row, end in enumerate(ends.tolist()):
        place = bisect_left(last, -end)
        if place == len(groups):
            groups.append([])
            last.append(0)
        groups[place].append(row)
        last[place] = -end
    return [np.array(rows, np.int64) for rows in groups]


def subtract(a: Intervals, b: Intervals) -> Intervals:
    """The time of `a` that does not lie in `b` (each sorted and disjoint)."""
    if len(a) == 0 or len(b) == 0:
        return a
    return intersect(a, complement(b, int(a[0, 0]), int(a[-1, 1])))


def complement(a: Intervals, begin: int, end: int) -> Intervals:
    """The time of [begin, end) that does not lie in `a` (sorted and disjoint)."""
    edges = np.concatenate([[begin], a.ravel(), [end]]).reshape(-1, 2)
    edges = np.clip(edges, begin, end)
    inside: Intervals = edges[edges[:, 1] > edges[:, 0]]
    return inside


def clip(a: Intervals, begin: int, end: int) -> Intervals:
    """The part of `a` (sorted and disjoint) inside [begin, end).

    Only what lies there is looked at, so that going through a run window by window stays linear.
    """
    if end <= begin:
        return EMPTY
    first = np.searchsorted(a[:, 1], begin, side="right")
    last = np.searchsorted(a[:, 0], end, side="left")
    return np.clip(a[first:last], begin, end)


def measure(a: Intervals) -> int:
    """The total length in ns."""
    return int((a[:, 1] - a[:, 0]).sum())


def within(
    a: Intervals, begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How much of `a` (sorted and disjoint) lies in each window [begin, end), ns; exact.

    Of 0-10 and 20-30, the windows 5-25 and 10-20 have 10 and 0.
    """
    sums = np.concatenate([[0], np.cumsum(a[:, 1] - a[:, 0])])

    def until(time: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        begun = np.searchsorted(a[:, 0], time, side="right")
        rest = a[begun - 1, 1] - time if len(a) else np.zeros_like(time)
        found: npt.NDArray[np.int64] = sums[begun] - np.where(begun > 0, np.maximum(rest, 0), 0)
        return found

    inside: npt.NDArray[np.int64] = np.maximum(until(end) - until(begin), 0)
    return inside
