"""Bandwidth against message size: the middle and the spread of each size."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
