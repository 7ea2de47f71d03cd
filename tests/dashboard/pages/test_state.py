"""The view state: what a URL says, read and written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.pages.state import BadView, ViewState, parse


def test_every_field_is_read() -> None:
    search = "?run=1&vs=0&steps=3-9&t0=1200&t1=3400&sel=2.1041&theme=dark&op=all_reduce"
    assert parse(search, 2) == ViewState(
        run=1,
        other=0,
        steps=(3, 9),
        window=(1200, 3400),
        selection=(2, 1041),
        theme="dark",
        extra={"op": "all_reduce"},
    )


def test_a_search_is_any_line_and_lists_may_be_long() -> None:
    many = ",".join(map(str, range(0, 1500, 2)))
    state = parse(f"q=<b>nn/Linear%3A%3A*%20rank:3&on={many}&fold=stage 1: dp 0|stage 2", 1)
    assert state.extra == {
        "q": "<b>nn/Linear::* rank:3",
        "on": many,
        "fold": "stage 1: dp 0|stage 2",
    }


def test_nothing_is_the_first_run_whole_and_light() -> None:
    assert parse("", 1) == ViewState()
    assert ViewState().query() == ""


def test_steps_are_chosen_from_those_that_exist() -> None:
    assert ViewState(steps=(2, 4)).chosen((0, 1, 2, 3, 5)) == (2, 3)
    assert ViewState().chosen((0, 1)) == (0, 1)
    assert parse("steps=7", 1).steps == (7, 7)


@pytest.mark.parametrize(
    ("search", "why"),
    [
        ("run=2", "runs 0 to 1"),
        ("run=-1", "whole number"),
        ("run=../../etc", "whole number"),
        ("run=٣", "whole number"),
        ("vs=", "whole number"),
        ("steps=9-3", "ends before it starts"),
        ("steps=a", "one step"),
        ("t0=5", "both t0 and t1"),
        ("t0=5&t1=5", "ends before it starts"),
        ("t0=1e9&t1=2e9", "whole number"),
        ("sel=1", "rank.row"),
        ("theme=pink", "light or dark"),
        ("run=0&run=1", "twice"),
        ("op=<script>", "not a field"),
        ("A=1", "not a field"),
        ("q=" + "y" * 201, "not a field"),
        ("q=a%00", "not a field"),
        ("op=" + "y" * 121, "not a field"),
        ("fold=<b>", "not a field"),
        ("sql=" + "y" * 2001, "longer than 2,000"),
        ("sql=select%00", "cannot be printed"),
        ("x=" + "y" * 9000, "longer than"),
        ("&".join(f"k{i}=1" for i in range(40)), "more than"),
    ],
)
def test_what_names_no_view_is_refused(search: str, why: str) -> None:
    with pytest.raises(BadView, match=why):
        parse(search, 2)


numbers = st.integers(0, 10**12)
pairs = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).map(lambda p: (min(p), max(p)))


@given(
    st.builds(
        ViewState,
        run=st.integers(0, 3),
        other=st.none() | st.integers(0, 3),
        steps=st.none() | pairs,
        window=st.none() | st.tuples(numbers, st.integers(1, 10**9)).map(lambda w: (w[0], sum(w))),
        selection=st.none() | st.tuples(st.integers(0, 99), numbers),
        theme=st.sampled_from(["light", "dark"]),
        sql=st.text("select*'\"%&=+;\n\té ", max_size=40),
    )
)
def test_what_is_written_reads_back(state: ViewState) -> None:
    assert parse("?" + state.query(), 4) == state


@given(st.text(max_size=200))
def test_any_text_is_a_view_or_refused(search: str) -> None:
    with contextlib.suppress(BadView):
        parse(search, 1)
