"""Rows by key are those that looking through all rows finds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dashboard.analysis.rows_by_key import (
    codes,
    medians,
    medians_of_others,
    numbered,
    rows_by_key,
    sums,
    words_numbered,
)

_ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3), st.integers(0, 1_000)))


def _columns(rows: list[tuple[int, int, int]]) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return [np.array([row[at] for row in rows], np.int64) for at in range(3)]


@given(rows=_ROWS)
def test_what_is_found_by_sorting_is_what_looking_through_all_rows_finds(
    rows: list[tuple[int, int, int]],
) -> None:
    owner, other, values = _columns(rows)
    by_owner = rows_by_key(owner, 5)
    first, of = numbered(owner, other)
    assert [rows[at][:2] for at in first.tolist()] == sorted({row[:2] for row in rows})
    assert [rows[first[number]][:2] for number in of.tolist()] == [row[:2] for row in rows]
    of_others = medians_of_others(owner, values) if rows else np.zeros(0)
    for key in range(5):
        mine = [row for row in rows if row[0] == key]
        assert by_owner[key].tolist() == [at for at, row in enumerate(rows) if row[0] == key]
        assert sums(owner, values, 5)[key] == sum(row[2] for row in mine)
        if mine:
            at = by_owner[key]
            theirs = [row[2] for row in rows if row[0] != key] or [row[2] for row in mine]
            assert set(medians(owner, values)[at]) == {np.median([row[2] for row in mine])}
            assert set(of_others[at]) == {np.median(theirs)}


_WORDS = st.lists(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=4), max_size=3)


@given(chunks=_WORDS, is_dictionary=st.booleans())
def test_each_row_has_the_number_of_its_word_and_nulls_are_one_more(
    chunks: list[list[str | None]], is_dictionary: bool
) -> None:
    column = pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())
    if is_dictionary:
        encoded = [chunk.dictionary_encode() for chunk in column.chunks]
        column = pa.chunked_array(encoded, pa.dictionary(pa.int32(), pa.string()))
    words, of = words_numbered(column)
    rows = [word for chunk in chunks for word in chunk]
    assert [words[number] for number in of.tolist()] == rows
    assert set(words) == set(rows)
    assert len(words) == len(set(words))


def test_more_combinations_than_a_number_holds_are_still_told_apart() -> None:
    wide = np.array([0, 2**40, 0, 2**40], np.int64)
    first, of = numbered(wide, wide, np.array([1, 1, 0, 1]))
    assert (first.tolist(), of.tolist()) == ([2, 0, 1], [1, 2, 0, 2])


def test_numbers_of_any_size_are_told_apart_in_their_order() -> None:
    """One column alone has more values than a code has room for."""
    ends = np.array([2**63 - 1, -(2**63), 2**63 - 1, 0], np.int64)
    assert codes(ends).argsort(kind="stable").tolist() == [1, 3, 0, 2]
    first, of = numbered(np.array([1, 1, 0, 1]), ends, np.array([4, 5, 6, 7]))
    assert (first.tolist(), of.tolist()) == ([2, 1, 3, 0], [3, 1, 0, 2])


def test_narrow_columns_do_not_wrap() -> None:
    narrow = np.array([-100, 100, 27], np.int8)
    assert codes(np.array([0, 1, 1], np.int8), narrow).tolist() == [0, 401, 328]


def test_words_of_several_chunks_and_of_none() -> None:
    column = pa.chunked_array([["b", None], ["a", "b"]], pa.string())
    words, of = words_numbered(column)
    assert [words[number] for number in of] == ["b", None, "a", "b"]
    assert words_numbered(column.slice(0, 0))[1].tolist() == []
    assert words_numbered(pa.chunked_array([], pa.string()))[1].tolist() == []
