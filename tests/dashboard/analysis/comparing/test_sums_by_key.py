"""Rows are summed some at a time, to the same last digit as all at once."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from dashboard.analysis.comparing import sums_by_key as summing
from dashboard.analysis.comparing.sums_by_key import keys_of, sums_by_key


def test_few_rows_at_a_time_give_the_same_to_the_last_digit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(20_261_128)
    rows = [
        {
            "rank": chance.randrange(4),
            "step": chance.randrange(3),
            "name": chance.choice(["a", "b", None]),
            "duration": chance.randrange(10**9),
        }
        for _ in range(200)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = pa.table(columns).cast(
        pa.schema(
            [
                ("rank", pa.int32()),
                ("step", pa.int32()),
                ("name", pa.dictionary(pa.int32(), pa.string())),
                ("duration", pa.int64()),
            ]
        )
    )
    weights = {0: 0.1, 1: 0.3, 3: 0.6}
    keys = sorted(keys_of(table, ("name",)), key=str)
    assert keys == [("a",), ("b",), (None,)]
    whole = sums_by_key(table, (2, 0, 1), weights, keys, ("name",))
    expected = sum(
        weights.get(row["rank"], 0) * row["duration"] / 1e6
        for row in rows
        if row["step"] == 0 and row["name"] is None
    )
    assert whole[1, 2] == pytest.approx(expected)
    monkeypatch.setattr(summing, "_ROWS", 7)
    assert sorted(keys_of(table, ("name",)), key=str) == keys
    assert np.array_equal(sums_by_key(table, (2, 0, 1), weights, keys, ("name",)), whole)
