"""The backward walk on paper: two ranks, one send, one late collective."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dashboard.analysis.replay.backward_walk import Dependency, Segment, walk


def dependency(end: int, cause: int, cause_rank: int) -> Dependency:
    return Dependency(end=end, cause=cause, cause_rank=cause_rank, operation=0)


def test_path_crosses_to_the_sender_and_comes_back() -> None:
    # rank 0: F 0-10, send at 10, then waits for rank 1's gradient, which is sent at 30: 12-32
    # rank 1: waits for rank 0's activation 0-12, works 12-30, sends at 30, idles until 40
    # rank 0 works 32-40 and ends last.
    found = {
        0: [dependency(end=32, cause=30, cause_rank=1)],
        1: [dependency(end=12, cause=10, cause_rank=0)],
    }
    assert walk(found, rank=0, begin=0, end=40) == [
        Segment(rank=0, start=0, end=10, what="local"),
        Segment(rank=1, start=10, end=12, what="transfer", cause_rank=0, operation=0),
        Segment(rank=1, start=12, end=30, what="local"),
        Segment(rank=0, start=30, end=32, what="transfer", cause_rank=1, operation=0),
        Segment(rank=0, start=32, end=40, what="local"),
    ]


def test_a_cause_before_the_step_ends_the_path_at_its_begin() -> None:
    found = {0: [dependency(end=105, cause=90, cause_rank=1)]}
    assert walk(found, rank=0, begin=100, end=110) == [
        Segment(rank=0, start=100, end=105, what="transfer", cause_rank=1, operation=0),
        Segment(rank=0, start=105, end=110, what="local"),
    ]


def test_a_rank_that_waited_for_nobody_is_its_own_path() -> None:
    assert walk({}, rank=3, begin=5, end=9) == [Segment(rank=3, start=5, end=9, what="local")]


@st.composite
def dependencies(draw: st.DrawFn) -> dict[int, list[Dependency]]:
    found: dict[int, list[Dependency]] = {}
    for rank in range(3):
        ends = draw(st.lists(st.integers(1, 200), unique=True, max_size=8))
        found[rank] = sorted(
            dependency(
                end=end,
                cause=draw(st.integers(-20, end - 1)),
                cause_rank=(rank + draw(st.integers(1, 2))) % 3,
            )
            for end in ends
        )
    return found


@given(dependencies(), st.integers(0, 2), st.integers(0, 100), st.integers(1, 120))
def test_segments_tile_the_step(
    found: dict[int, list[Dependency]], rank: int, begin: int, length: int
) -> None:
    path = walk(found, rank=rank, begin=begin, end=begin + length)
    assert path[0].start == begin
    assert path[-1].end == begin + length
    assert path[-1].rank == rank
    assert all(a.end == b.start for a, b in pairwise(path))
    assert all(segment.duration > 0 for segment in path)
    assert all(a.rank == (b.rank if b.what == "local" else b.cause_rank) for a, b in pairwise(path))
