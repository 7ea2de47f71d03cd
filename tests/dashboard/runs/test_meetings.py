"""Where ranks meet: operations are told apart by four numbers at once, and kept by channel."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dashboard.runs import meetings as module
from dashboard.runs.alignment import ALIGNED_BY
from dashboard.runs.meetings import Encounters, Meetings, distinct
from tracer.schema import EVENT_SCHEMA


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


HOSTS = {0: "a", 1: "a", 2: "b"}
"""`near` is of ranks 0 and 1; `far` of all three, and in it rank 0 sends to rank 2."""
OPERATIONS = {
    0: [
        ("all_reduce", "near", 0, 10, 5, None),
        ("all_reduce", "far", 0, 20, 4, None),
        ("send", "far", 7, 30, 1, 2),
    ],
    1: [
        ("all_reduce", "near", 0, 11, 4, None),
        ("all_reduce", "far", 0, 21, 3, None),
        ("all_reduce", "far", 6, 40, 2, None),
    ],
    2: [("all_reduce", "far", 0, 22, 2, None), ("recv", "far", 7, 29, 3, 0)],
}
"""By rank: name, group, seq, start, duration (ns) and peer; 8 operations of a rank."""


def _met() -> Meetings:
    seen = Encounters()
    for rank, rows in OPERATIONS.items():
        names = ("name", "group", "seq", "start", "duration", "peer")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        columns["kind"] = [
            name if name in ("send", "recv") else "collective" for name in columns["name"]
        ]
        columns["lane"] = ["host:main"] * len(rows)
        fields = [EVENT_SCHEMA.field(name) for name in ALIGNED_BY]
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in fields]
        seen.add(rank, pa.table(arrays, schema=pa.schema(fields)))
    return seen.meetings(HOSTS)


def test_ranks_meet_in_what_other_hosts_take_part_in_by_hand() -> None:
    """Not in `near`, and not in the seventh of `far`, which nobody else has come to."""
    met = _met()
    assert (np.diff(met.meeting) > 0).tolist() == [False, False, True, False]
    assert met.rank.tolist() == [0, 1, 2, 0, 2]
    assert met.cause[met.has_cause].tolist() == [20, 21, 22, 30]
    assert met.has_cause.tolist() == [True, True, True, True, False]
    assert met.effect[met.has_effect].tolist() == [24, 24, 24, 32]
    assert met.has_effect.tolist() == [True, True, True, False, True]


@pytest.mark.parametrize(("most_rows", "ranks"), [(8, [0, 1, 2, 0, 2]), (7, [0, 1, 2])])
def test_how_many_are_looked_at_is_counted_with_those_within_a_host(
    monkeypatch: pytest.MonkeyPatch, most_rows: int, ranks: list[int]
) -> None:
    """Eight operations, six of them in `far`: where seven are wanted, each second number is looked
    at, 0 and 6, and the message, which is number 7, is not.
    """
    monkeypatch.setattr(module, "MOST_ROWS", most_rows)
    assert _met().rank.tolist() == ranks


def test_without_operations_nobody_meets() -> None:
    assert len(Encounters().meetings(HOSTS)) == 0
