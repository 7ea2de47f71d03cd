"""Operations without a trace around them: rows of `Bandwidth.operations` that matter to fits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

_SCHEMA = pa.schema(
    [
        ("group", pa.string()),
        ("dim", pa.string()),
        ("op", pa.string()),
        ("step", pa.int32()),
        ("n", pa.int32()),
        ("bytes", pa.int64()),
        ("transfer_ns", pa.int64()),
        ("unwatched_ns", pa.int64()),
        ("src", pa.int32()),
        ("dst", pa.int32()),
    ]
)
_USUAL = {"group": "pp:0-1", "dim": "pp", "op": "p2p", "step": 0, "n": 2, "unwatched_ns": 0}


def transfers(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """The rows; what they leave out is that of a message between 0 and 1 that was waited for."""
    return pa.Table.from_pylist([_USUAL | {"src": 0, "dst": 1} | row for row in rows], _SCHEMA)
