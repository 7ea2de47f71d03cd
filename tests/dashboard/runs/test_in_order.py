"""Events in order of start, from parts that overlap, in stretches."""

from __future__ import annotations

import io
from itertools import pairwise

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.runs.in_order import InOrder

PARTS = st.lists(
    st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from(("F", "B", "W", None)), st.integers(0, 9)),
        max_size=30,
    ),
    max_size=5,
)


def _table(rows: list[tuple[int, str | None, int]]) -> pa.Table:
    start, names, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "start": pa.array(start, pa.int64()),
            "name": pa.array(names, pa.string()).dictionary_encode(),
            "number": pa.array([n or None for n in numbers], pa.int32()),
        }
    )


@settings(max_examples=40, deadline=None)
@given(parts=PARTS, stretch=st.integers(1, 40))
def test_all_events_come_once_and_in_order(
    parts: list[list[tuple[int, str | None, int]]], stretch: int
) -> None:
    ordered = InOrder(io.BytesIO(), stretch=stretch)
    sorted_parts = [_table(sorted(part, key=lambda row: row[0])) for part in parts]
    for part in sorted_parts:
        ordered.add(part)
    found = list(ordered.stretches())
    rows = [row for part in sorted_parts for row in part.to_pylist()]
    wanted = sorted(rows, key=lambda row: row["start"])  # stable
    assert [row for table in found for row in table.to_pylist()] == wanted
    filled = [table["start"].to_pylist() for table in found if table.num_rows]
    assert all(a[-1] < b[0] for a, b in pairwise(filled))
    assert all(table.schema == sorted_parts[0].schema for table in found)


def test_a_stretch_is_of_as_many_events_as_are_wanted() -> None:
    """Parts one after the other, and a last one that reaches over all of them."""
    ordered = InOrder(io.BytesIO(), stretch=100)
    for part in range(20):
        ordered.add(_table([(start, "F", 1) for start in range(part * 100, part * 100 + 100)]))
    ordered.add(_table([(start, "step", 2) for start in range(0, 2_000, 100)]))
    rows = [table.num_rows for table in ordered.stretches()]
    assert sum(rows) == 2_020
    assert max(rows) <= 120
    assert min(rows[:-1]) >= 100
