"""Collectives of each rank, summed up by mesh dimension and operation: bytes, and how fast."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import BUS_FACTORS
from dashboard.analysis.communication.bandwidth_by_rank import member_times

if TYPE_CHECKING:
    from dashboard.runs import Recording

_BY: Final = ("dim", "op", "rank")
_SCHEMA: Final = pa.schema(
    [
        ("dim", pa.string()),
        ("op", pa.string()),
        ("rank", pa.int32()),
        ("groups", pa.int64()),
        ("count", pa.int64()),
        ("bytes", pa.int64()),
        ("gbps", pa.float64()),
    ]
)


def collective_totals(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """A row per dimension, op and rank, in that order, of complete collectives with a payload.

    groups: in how many the rank took part; count: operations; bytes: as they are recorded; gbps:
    skew-free bus bandwidth as the rank itself saw it, total bytes on the bus over total time from
    the last arrival to its own completion (1e9 B/s), null where no time passed.

    Before (two all_reduce of 1,000 B over 2 ranks)   After
    rank 0: 100 and 300 ns after the last arrival     rank 0: bytes 2000, gbps 2000 / 400 = 5
    """
    timed = member_times(run, steps)
    timed = timed.filter(pc.invert(pc.is_in(timed["op"], pa.array(["send", "recv"]))))
    grouped = timed.group_by([*_BY, "n"], use_threads=False).aggregate(
        [("group", "count_distinct"), ("bytes", "count"), ("bytes", "sum"), ("free", "sum")]
    )
    totals: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in grouped.to_pylist():
        total = totals.setdefault(
            (row["dim"], row["op"], row["rank"]),
            {"groups": 0, "count": 0, "bytes": 0, "on_bus": 0.0, "ns": 0},
        )
        factor = BUS_FACTORS[row["op"]](row["n"]) if row["op"] in BUS_FACTORS else 0.0
        total["groups"] += row["group_count_distinct"]
        total["count"] += row["bytes_count"]
        total["bytes"] += row["bytes_sum"]
        total["on_bus"] += row["bytes_sum"] * factor
        total["ns"] += row["free_sum"]
    rows = [
        dict(zip(_BY, key, strict=True))
        | {name: total[name] for name in ("groups", "count", "bytes")}
        | {"gbps": total["on_bus"] / total["ns"] if total["ns"] and total["on_bus"] else None}
        for key, total in totals.items()
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    return table.sort_by([(name, "ascending") for name in _BY])
