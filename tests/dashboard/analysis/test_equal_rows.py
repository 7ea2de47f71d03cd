"""Rows with equal keys become one as `group_by` has it, which is many times slower."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.analysis.equal_rows import equal_rows

_SCHEMA = pa.schema(
    [
        ("group", pa.string()),
        ("seq", pa.int64()),
        ("op", pa.string()),
        ("bytes", pa.int64()),
        ("step", pa.int32()),
        ("last", pa.int64()),
        ("rank", pa.int32()),
    ]
)
_HOW = {"op": "first", "bytes": "max", "step": "min", "last": "sum", "rank": "first"}

_row = st.fixed_dictionaries(
    {
        "group": st.sampled_from(["tp:2-3", "tp:0-1", "é"]),
        "seq": st.sampled_from([0, 1, 2, 1 << 53]),
        "op": st.sampled_from([None, "all_reduce", "barrier"]),
        "bytes": st.sampled_from([None, 8, -16]),
        "step": st.sampled_from([None, 0, 1]),
        "last": st.integers(-(1 << 58), 1 << 58),
        "rank": st.integers(0, 1 << 16),
    }
)


def _table(*rows: dict[str, object]) -> pa.Table:
    base = dict.fromkeys(_SCHEMA.names)
    return pa.Table.from_pylist([base | row for row in rows], schema=_SCHEMA)


def test_equal_rows_are_one() -> None:
    found = equal_rows(
        _table(
            {"group": "tp", "seq": 4, "op": None, "bytes": 8, "last": 12, "rank": 1},
            {"group": "dp", "seq": 4, "op": "barrier", "last": 3, "rank": 0},
            {"group": "tp", "seq": 4, "op": "all_reduce", "bytes": 6, "last": 12, "rank": 5},
            {"group": "tp", "seq": 4, "op": "barrier", "bytes": 9, "last": 7, "rank": 7},
        ),
        ("group", "seq"),
    )
    rows = found.merged(_HOW)
    assert rows.to_pydict() == {
        "group": ["dp", "tp"],
        "seq": [4, 4],
        "op": ["barrier", "all_reduce"],
        "bytes": [None, 9],
        "step": [None, None],
        "last": [3, 31],
        "rank": [0, 1],
    }
    assert found.of_last("rank", by="last").to_pylist() == [0, 5]  # of 12 and 12 the later row
    assert found.by_first().merged(_HOW)["group"].to_pylist() == ["tp", "dp"]
    assert not found.are_single


@given(st.lists(_row, max_size=12), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_they_are_what_group_by_says(rows: list[dict[str, object]], cut: int) -> None:
    whole = _table(*rows)
    table = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    keys = ["group", "seq"]
    grouped = whole.group_by(keys, use_threads=False).aggregate([*_HOW.items()])
    expected = grouped.select([*keys, *(f"{name}_{how}" for name, how in _HOW.items())])
    expected = expected.rename_columns([*keys, *_HOW])
    in_order = [(key, "ascending") for key in keys]
    found = equal_rows(table, keys)
    expected = expected.sort_by(in_order)
    assert found.merged(_HOW).equals(expected)
    by_first = found.by_first().merged(_HOW)
    assert by_first.sort_by(in_order).equals(expected)
    pairs = [(row["group"], row["seq"]) for row in rows]
    assert list(zip(*by_first.select(keys).to_pydict().values(), strict=True)) == list(
        dict.fromkeys(pairs)
    )
    assert found.are_single == (len(expected) == len(rows))
    latest = whole.sort_by("last").group_by(keys, use_threads=False).aggregate([("rank", "last")])
    culprits = latest.sort_by(in_order)["rank_last"]
    assert found.of_last("rank", by="last").to_pylist() == culprits.to_pylist()
