"""Sums by key and step: on paper, and in any grouping."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dashboard.analysis.sums_by_step import SumsByStep, added, sums_by_step

Row = tuple[str, int, int]
rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(1, 2**40)), max_size=12
)


def made(drawn: list[Row]) -> SumsByStep:
    keys = [(key,) for key, _, _ in drawn]
    step, values = (np.array([row[n] for row in drawn], np.int64) for n in (1, 2))
    return sums_by_step(set(step.tolist()), keys, np.arange(len(drawn)), step, values)


def cells(found: SumsByStep) -> Counter[tuple[str, int]]:
    assert found.steps.tolist() == sorted(found.steps.tolist())
    return Counter(
        {
            (key, step): value
            for (key,), row in zip(found.keys, found.values.tolist(), strict=True)
            for step, value in zip(found.steps.tolist(), row, strict=True)
            if value
        }
    )


def test_rows_on_paper() -> None:
    found = made([("a", 7, 4), ("b", 3, 1), ("a", 7, 2), ("a", 3, 5)])
    assert (found.steps.tolist(), found.keys) == ([3, 7], (("a",), ("b",)))
    assert found.values.tolist() == [[5, 6], [1, 0]]
    # In steps as they are asked for, and 0 in those that it has not.
    assert found.within((7, 5, 3, 9)).tolist() == [[6, 0, 5, 0], [0, 0, 1, 0]]
    both = added([found, made([("c", 5, 8), ("a", 3, 1)])])
    assert (both.steps.tolist(), both.keys) == ([3, 5, 7], (("a",), ("b",), ("c",)))
    assert both.values.tolist() == [[6, 0, 6], [1, 0, 0], [0, 8, 0]]
    assert added([]).within((1, 2)).shape == (0, 2)


def test_keys_without_anything_are_left_out() -> None:
    found = made([("a", 7, 0), ("b", 3, 1), ("c", 3, -2), ("c", 7, 2), ("a", 3, 0)])
    assert found.keys == (("b",), ("c",))
    assert found.values.tolist() == [[1, 0], [-2, 2]]
    assert found.steps.tolist() == [3, 7], "step 7 has been looked at"


@given(st.lists(rows, min_size=1, max_size=6), st.integers(1, 5))
def test_parts_add_up_in_any_grouping(drawn: list[list[Row]], split: int) -> None:
    parts = [made(part) for part in drawn]
    expected: Counter[tuple[str, int]] = Counter()
    for key, step, value in (row for part in drawn for row in part):
        expected[key, step] += value
    whole = added(parts)
    grouped = added([added(parts[:split]), added(parts[split:])])
    assert cells(whole) == expected
    assert grouped.keys == whole.keys
    assert np.array_equal(grouped.values, whole.values)
