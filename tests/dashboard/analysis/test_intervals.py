"""Interval sets against sets of integers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dashboard.analysis.intervals import (
    Intervals,
    clip,
    common,
    complement,
    intersect,
    intervals,
    measure,
    subtract,
    union,
    within,
)

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=8)


def made(drawn: list[tuple[int, int]]) -> Intervals:
    return intervals([start for start, _ in drawn], [duration for _, duration in drawn])


def instants(found: Intervals) -> set[int]:
    return {i for begin, end in found.tolist() for i in range(begin, end)}


def drawn_instants(drawn: list[tuple[int, int]]) -> set[int]:
    return {i for start, duration in drawn for i in range(start, start + duration)}


def is_normal(found: Intervals) -> bool:
    """Sorted, disjoint, not touching, none empty."""
    return bool((np.diff(found.ravel()) > 0).all())


@given(spans)
def test_union_covers_exactly_what_is_drawn(drawn: list[tuple[int, int]]) -> None:
    assert instants(made(drawn)) == drawn_instants(drawn)
    assert is_normal(made(drawn))
    assert measure(made(drawn)) == len(drawn_instants(drawn))


@given(spans, spans)
def test_set_operations(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    x, y = drawn_instants(a), drawn_instants(b)
    assert instants(union(made(a), made(b))) == x | y
    assert instants(intersect(made(a), made(b))) == x & y
    assert instants(subtract(made(a), made(b))) == x - y


windows = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 40)), max_size=8)


@given(spans, windows)
def test_what_is_common_with_windows_that_overlap_or_lie_in_each_other(
    drawn: list[tuple[int, int]], windows: list[tuple[int, int]]
) -> None:
    a = made(drawn)
    in_order = sorted(windows, key=lambda window: window[0])
    b = np.array([(begin, begin + long) for begin, long in in_order], np.int64).reshape(-1, 2)
    found, left, right = common(a, b)
    pairs = [
        (i, j, max(begin, start), min(end, until))
        for i, (begin, end) in enumerate(a.tolist())
        for j, (start, until) in enumerate(b.tolist())
        if max(begin, start) < min(end, until)
    ]
    told = zip(left.tolist(), right.tolist(), *found.T.tolist(), strict=True)
    assert list(told) == pairs


def test_a_window_in_a_longer_one_on_paper() -> None:
    """15-16 lies in the long window alone, though the short one begins and ends before."""
    b = np.array([[10, 20], [11, 12], [20, 30]])
    found, left, right = common(np.array([[0, 13], [15, 16], [19, 40]]), b)
    assert found.tolist() == [[10, 13], [11, 12], [15, 16], [19, 20], [20, 30]]
    assert (left.tolist(), right.tolist()) == ([0, 0, 1, 2, 2], [0, 1, 0, 0, 2])


@given(spans, st.lists(st.tuples(st.integers(-5, 80), st.integers(0, 30)), min_size=1))
def test_what_lies_in_many_windows_is_what_lies_in_each(
    drawn: list[tuple[int, int]], windows: list[tuple[int, int]]
) -> None:
    begin, length = np.array(windows, np.int64).T
    found = within(made(drawn), begin, begin + length)
    assert found.tolist() == [
        len(drawn_instants(drawn) & set(range(start, start + wide))) for start, wide in windows
    ]


@given(spans, st.integers(0, 70), st.integers(0, 30))
def test_complement_and_clip_share_out_the_window(
    drawn: list[tuple[int, int]], begin: int, length: int
) -> None:
    window = set(range(begin, begin + length))
    clipped = clip(made(drawn), begin, begin + length)
    assert is_normal(clipped)
    inside = instants(clipped)
    outside = instants(complement(made(drawn), begin, begin + length))
    assert inside == drawn_instants(drawn) & window
    assert outside == window - drawn_instants(drawn)
