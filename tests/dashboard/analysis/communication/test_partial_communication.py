"""Parts of ranks and steps add up to the whole, however they are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.analysis.communication.partial_communication import joined, partial_communication
from dashboard.analysis.reduction import FAN_IN, reduced

_SCHEMA = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("op", pa.string()),
        ("dim", pa.string()),
        ("group", pa.string()),
        ("seq", pa.int64()),
        ("peer", pa.int32()),
        ("bytes", pa.int64()),
        ("dtype", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("watched_from", pa.int64()),
    ]
)

_row = st.fixed_dictionaries(
    {
        "rank": st.integers(0, 3),
        "step": st.integers(0, 1),
        "op": st.sampled_from(["all_reduce", "barrier", "send", "recv"]),
        "dim": st.just("tp"),
        "group": st.sampled_from([None, "tp:0-1", "tp:2-3"]),
        "seq": st.sampled_from([None, 0, 1, 2]),
        "peer": st.sampled_from([None, 0, 1]),
        "bytes": st.sampled_from([None, 8, 16]),
        "dtype": st.sampled_from([None, "float32"]),
        "start": st.integers(0, 5),
        "end": st.integers(5, 9),
        "watched_from": st.integers(0, 9),
    }
)


@given(st.lists(_row, max_size=20), st.lists(st.integers(0, 20), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_grouping_that_keeps_the_order_gives_the_same(
    rows: list[dict[str, object]], cuts: Sequence[int]
) -> None:
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [
        partial_communication(table.slice(begin, end - begin)) for begin, end in pairwise(edges)
    ]
    whole = partial_communication(table)
    for found in (joined(parts), joined([joined(parts[:2]), *parts[2:]])):
        assert found.collectives.to_pylist() == whole.collectives.to_pylist()
        assert found.sends.to_pylist() == whole.sends.to_pylist()
        assert found.receives.to_pylist() == whole.receives.to_pylist()
        assert found.lost == whole.lost


def test_the_last_to_arrive_is_found_across_parts() -> None:
    base = {"step": 0, "op": "barrier", "group": "tp:0-1", "seq": 4, "watched_from": 0, "end": 9}
    parts = [
        partial_communication(
            pa.Table.from_pylist([base | {"rank": rank, "start": start}], schema=_SCHEMA)
        )
        for rank, start in ((0, 3), (1, 5), (2, 1))
    ]
    row = joined(parts).collectives.to_pylist()[0]
    assert (row["members"], row["first"], row["last"], row["culprit"]) == (3, 1, 5, 1)
    assert row["seen"] == (9 - 3) + (9 - 5) + (9 - 1)


def test_ends_whose_number_is_used_again_lie_where_they_were_first() -> None:
    """Messages 5, 3, 5 and 1 from rank 1 to 0, as both ends tell them: by first row, not number."""
    base = {"step": 0, "group": "tp:0-1", "bytes": 8, "watched_from": 0}
    ends = {"send": {"rank": 1, "peer": 0}, "recv": {"rank": 0, "peer": 1}}
    parts = [
        partial_communication(
            pa.Table.from_pylist(
                [
                    base | end | {"op": op, "seq": seq, "start": start, "end": start + 1}
                    for op, end in ends.items()
                    for seq, start in told
                ],
                schema=_SCHEMA,
            )
        )
        for told in ([(5, 10), (3, 20), (5, 30)], [(1, 40), (3, 50)])
    ]
    for first in (parts[0].sends, parts[0].receives):
        assert first.select(["seq", "start", "times"]).to_pylist() == [
            {"seq": 5, "start": 10, "times": 2},
            {"seq": 3, "start": 20, "times": 1},
        ]
    both = joined(parts)
    for found in (both.sends, both.receives):
        assert found.select(["seq", "start", "times"]).to_pylist() == [
            {"seq": 5, "start": 10, "times": 2},
            {"seq": 3, "start": 20, "times": 2},
            {"seq": 1, "start": 40, "times": 1},
        ]


def test_a_tree_keeps_the_order_and_joins_few_at_a_time() -> None:
    widths = []

    def join(parts: Sequence[list[int]]) -> list[int]:
        widths.append(len(parts))
        return [number for part in parts for number in part]

    assert reduced(([n] for n in range(1000)), join) == list(range(1000))
    assert max(widths) < 2 * FAN_IN
