from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dashboard.analysis.communication.matching import Row, matched, met
from dashboard.analysis.communication.waiting import blocks_of, links_of, usual_lengths

_SCHEMA = pa.schema(
    [
        ("rank", pa.int32()),
        ("op", pa.string()),
        ("group", pa.string()),
        ("seq", pa.int64()),
        ("peer", pa.int32()),
        ("bytes", pa.int64()),
        ("start", pa.int64()),
        ("call_end", pa.int64()),
        ("wait_start", pa.int64()),
        ("wait_end", pa.int64()),
    ]
)
"""What matching needs of `operations`."""


def _table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=_SCHEMA)


def _row(rank: int, op: str, start: int, call_end: int, **more: Any) -> Row:
    return {"rank": rank, "op": op, "start": start, "call_end": call_end, "bytes": 8, **more}


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "rank": st.integers(0, 3),
            "op": st.sampled_from(("send", "recv", "all_reduce")),
            "group": st.sampled_from(("pp:0", "tp:0", None)),
            "seq": st.sampled_from((0, 1, None)),
            "peer": st.sampled_from((0, 1, 2, None)),
            "start": st.integers(0, 50),
        }
    ),
    max_size=30,
)


@given(ROWS)
def test_columns_are_matched_as_rows_are(rows: list[Row]) -> None:
    """Also where numbers are used again, ends are missing, or nothing tells what belongs together;
    `matched` looks at row after row.
    """
    found = met(_table(*rows))
    by_row = {id(row): number for number, row in enumerate(rows)}
    messages, collectives = matched(rows)
    both = [ends for ends in messages.values() if len(ends) == 2]
    assert found.sends.tolist() == [by_row[id(ends["send"])] for ends in both]
    assert found.receives.tolist() == [by_row[id(ends["recv"])] for ends in both]
    several = [list(of.values()) for of in collectives.values() if len(of) > 1]
    assert found.members.tolist() == [by_row[id(row)] for rows_ in several for row in rows_]
    numbers = [number for number, rows_ in enumerate(several) for _ in rows_]
    assert found.collective.tolist() == numbers


def test_what_ends_a_wait_by_hand() -> None:
    """Rank 1 waits 0-11 for a message sent at 10: the transfer takes 1. Rank 0 sent without a wait.
    Of the collective, rank 1 comes last, at 20; rank 0 sat in it from 15 to 22, the transfer took
    2; rank 1, which waited for nobody, says only that it took 5 at most: so 2 there as well.
    """
    link = {"group": "pp:0", "seq": 0}
    group = {"group": "tp:0", "seq": 3}
    table = _table(
        _row(0, "send", 10, 10, peer=1, **link),
        _row(0, "all_reduce", 15, 22, **group),
        _row(1, "recv", 0, 1, peer=0, wait_start=0, wait_end=11, **link),
        _row(1, "all_reduce", 20, 25, **group),
    )
    links = links_of(table)
    assert links.row.tolist() == [2, 1, 3]
    assert links.cause.tolist() == [10, 20, 20]
    assert links.by.tolist() == [0, -1, -1]
    assert links.arrival.tolist() == [-1, 0, 0]
    assert links.weight.tolist() == [1, 2, 2]
    assert links.last_row.tolist() == [3]
    assert links.is_caused.tolist() == [False, True, True, False]
    free = usual_lengths(links)[blocks_of(table).alike]
    assert free.tolist() == [0, 5, 0, 5]  # of an all_reduce: 20-25 on rank 1
