"""Arrival skew: how long the members of an operation wait for the last one, and who that is."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pyarrow as pa

_KEYS: Final = ("group", "dim", "op", "src", "dst")
_SCHEMA: Final = pa.schema(
    [
        ("group", pa.string()),
        ("dim", pa.string()),
        ("op", pa.string()),
        ("src", pa.int32()),
        ("dst", pa.int32()),
        ("count", pa.int64()),
        ("skew_ns_mean", pa.float64()),
        ("skew_ns_total", pa.int64()),
        ("culprit_rank", pa.int32()),
        ("culprit_share", pa.float64()),
    ]
)


def arrival_skew(operations: pa.Table) -> pa.Table:
    """Per group and op (messages: per source and destination), the largest total first.

    Columns: group, dim, op, src, dst, count, skew_ns_mean (first to last arrival), skew_ns_total,
    culprit_rank: the rank that is most often the last, and culprit_share: how often it is.

    Before (operations)                     After
    all_reduce of tp:0-1, skew 4, rank 1    all_reduce of tp:0-1: count 2, mean 3, total 6,
    all_reduce of tp:0-1, skew 2, rank 1        culprit 1 in 100 %
    """
    grouped = operations.group_by(list(_KEYS), use_threads=False).aggregate(
        [("skew_ns", "count"), ("skew_ns", "mean"), ("skew_ns", "sum"), ("culprit_rank", "list")]
    )
    rows = [_row(row) for row in grouped.to_pylist()]
    return pa.Table.from_pylist(rows, schema=_SCHEMA).sort_by([("skew_ns_total", "descending")])


def _row(found: dict[str, Any]) -> dict[str, Any]:
    # Equal counts: the lower rank, so that the answer does not depend on the order of events.
    ranked = sorted(Counter(found["culprit_rank_list"]).items(), key=lambda it: (-it[1], it[0]))
    culprit, times = ranked[0]
    return {name: found[name] for name in _KEYS} | {
        "count": found["skew_ns_count"],
        "skew_ns_mean": found["skew_ns_mean"],
        "skew_ns_total": found["skew_ns_sum"],
        "culprit_rank": culprit,
        "culprit_share": times / len(found["culprit_rank_list"]),
    }
