"""Bandwidth, and time, against message size: the middle and the spread of each size."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.transfers import telling_transfers

PERCENTILES: Final = (10, 50, 90)
"""Spread and middle: a few operations are always disturbed, so neither least nor most."""

_VARIANTS: Final = ("busbw_seen", "busbw_skew_free")
_SCHEMA: Final = pa.schema(
    [
        ("dim", pa.string()),
        ("op", pa.string()),
        ("bytes", pa.int64()),
        ("count", pa.int64()),
        *((f"{name}{end}", pa.float64()) for name in _VARIANTS for end in ("", "_low", "_high")),
    ]
)


def bandwidth_by_size(operations: pa.Table) -> pa.Table:
    """One row per dimension, op and size of `Bandwidth.operations`, in that order.

    Columns: dim, op, bytes, count; busbw_seen and busbw_skew_free in GB/s: the median, and with
    `_low` and `_high` the 10th and 90th percentile. Operations without bandwidth are left out.
    """
    timed = operations.filter(pc.is_valid(operations["busbw_seen"]))
    grouped = timed.group_by(["dim", "op", "bytes"], use_threads=False).aggregate(
        [("seq", "count"), *((name, "list") for name in _VARIANTS)]
    )
    rows = [_row(row) for row in grouped.to_pylist()]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    return table.sort_by([(name, "ascending") for name in ("dim", "op", "bytes")])


def _row(found: dict[str, Any]) -> dict[str, Any]:
    row = {name: found[name] for name in ("dim", "op", "bytes")} | {"count": found["seq_count"]}
    for name in _VARIANTS:
        values = [value for value in found[f"{name}_list"] if value is not None]
        if values:
            low, middle, high = np.percentile(values, PERCENTILES)
            row |= {name: middle, f"{name}_low": low, f"{name}_high": high}
    return row


_TIMES: Final = pa.schema(
    [
        ("group", pa.string()),
        ("dim", pa.string()),
        ("op", pa.string()),
        ("bytes", pa.int64()),
        ("count", pa.int64()),
        *((name, pa.float64()) for name in ("ns", "ns_low", "ns_high")),
    ]
)


def time_by_size(operations: pa.Table) -> pa.Table:
    """One row per group, op and size of `Bandwidth.operations`, in that order.

    Columns: group, dim, op, bytes, count; ns, ns_low and ns_high: the median, the 10th and the 90th
    percentile of the skew-free times, of the operations that `telling_transfers` keeps.
    """
    keys = ["group", "dim", "op", "bytes"]
    told = telling_transfers(operations).group_by(keys, use_threads=False)
    rows = []
    for row in told.aggregate([("transfer_ns", "list")]).to_pylist():
        times = row.pop("transfer_ns_list")
        low, middle, high = np.percentile(times, PERCENTILES)
        rows.append(row | {"count": len(times), "ns": middle, "ns_low": low, "ns_high": high})
    table = pa.Table.from_pylist(rows, schema=_TIMES)
    return table.sort_by([(name, "ascending") for name in ("group", "op", "bytes")])
