"""Where ranks meet: operations are told apart by four numbers at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dashboard.runs.meetings import distinct


def test_different_columns_come_in_their_order_by_hand() -> None:
    found, which = distinct(np.array([[2, 1, 2, 1], [0, 5, 0, 4]]))
    assert found.tolist() == [[1, 1, 2], [4, 5, 0]]
    assert which.tolist() == [2, 1, 2, 0]


@given(arrays(np.int64, st.tuples(st.just(4), st.integers(0, 30)), elements=st.integers(-1, 2)))
def test_they_are_those_that_numpy_finds(columns: np.typing.NDArray[np.int64]) -> None:
    found, which = distinct(columns)
    expected, places = np.unique(columns, axis=1, return_inverse=True)
    assert found.tolist() == expected.tolist()
    assert which.tolist() == places.reshape(-1).tolist()
