"""Operations summed up by group, op and size, and the bandwidths that follow from the sums.

All sums are of whole numbers, so that parts may be added in any order and give the same bandwidth
to the last digit: a long run needs no row for each of its operations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.partial_communication import P2P, Lost
from dashboard.analysis.rows_by_key import summed

_SHARE: Final[Callable[[int], float]] = lambda n: (n - 1) / n  # noqa: E731 - one entry of a table
BUS_FACTORS: Final[dict[str, Callable[[int], float]]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "all_gather": _SHARE,
    "reduce_scatter": _SHARE,
    "all_to_all": _SHARE,
    "gather": _SHARE,
    "scatter": _SHARE,
    "broadcast": lambda n: 1.0,
    "reduce": lambda n: 1.0,
    P2P: lambda n: 1.0,
}
"""busbw / algbw for n ranks; operations without payload (barrier) have no bandwidth."""

_KEYS: Final = ("group", "op", "n", "bytes")
_SUMS: Final = ("count", "lasting", "seen", "transfer", "skew")
_TOTALS: Final = pa.schema(
    [
        ("group", pa.string()),
        ("op", pa.string()),
        ("n", pa.int32()),
        ("bytes", pa.int64()),
        *((name, pa.int64()) for name in _SUMS),
    ]
)
_SUMMARY: Final = pa.schema(
    [
        ("group", pa.string()),
        ("dim", pa.string()),
        ("op", pa.string()),
        ("n", pa.int32()),
        ("count", pa.int64()),
        ("bytes_total", pa.int64()),
        ("bytes_lasting", pa.int64()),
        ("bytes_median", pa.float64()),
        ("algbw_seen", pa.float64()),
        ("busbw_seen", pa.float64()),
        ("algbw_skew_free", pa.float64()),
        ("busbw_skew_free", pa.float64()),
        ("skew_ns_mean", pa.float64()),
        ("incomplete", pa.int64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class BandwidthTotals:
    """table: group, op, n, bytes (null where unknown), and over all such operations count, lasting
        (how many took time free of skew), and in ns seen (summed over the members), transfer (of
        the lasting ones) and skew.
    lost: the operations that are not complete, and the records that cannot be matched.
    """

    table: pa.Table
    lost: Lost


def totals_of(rows: pa.Table, lost: Lost) -> BandwidthTotals:
    """rows: group, op, n, bytes, seen_sum, transfer_ns and skew_ns of each operation.

    Before                                                After
    tp:0-1 all_reduce 8 B, seen_sum 30, transfer 10       count 2, lasting 2, seen 70, transfer 30
    tp:0-1 all_reduce 8 B, seen_sum 40, transfer 20
    """
    lasts = pc.greater(rows["transfer_ns"], 0)
    each = {
        **{name: rows[name] for name in _KEYS},
        "count": pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows),
        "lasting": lasts.cast(pa.int64()),
        "seen": rows["seen_sum"],
        "transfer": pc.if_else(lasts, rows["transfer_ns"], 0),
        "skew": rows["skew_ns"],
    }
    return BandwidthTotals(table=summed(pa.table(each, schema=_TOTALS), _KEYS, _SUMS), lost=lost)


def added(parts: Sequence[BandwidthTotals]) -> BandwidthTotals:
    """Several parts as one."""
    tables = [_TOTALS.empty_table(), *(part.table for part in parts)]
    return BandwidthTotals(
        table=summed(pa.concat_tables(tables), _KEYS, _SUMS),
        lost=sum((part.lost for part in parts), Counter()),
    )


def summary_of(totals: BandwidthTotals) -> pa.Table:
    """`Bandwidth.summary`: total bytes over total time."""
    sizes: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in totals.table.sort_by("bytes").to_pylist():
        sizes[row["group"], row["op"]].append(row)
    rows = []
    for group, op in sorted(sizes.keys() | totals.lost.keys()):
        mine = sizes[group, op]
        row = {"group": group, "dim": group.partition(":")[0], "op": op}
        lost = totals.lost.get((group, op), 0)
        rows.append(row | _numbers(mine, op) | {"incomplete": lost})
    return pa.Table.from_pylist(rows, schema=_SUMMARY)


def _numbers(sizes: Sequence[dict[str, Any]], op: str) -> dict[str, float | int | None]:
    """Of one group and op, by size. Operations whose transfer took no time do not count as
    skew-free, and those of unknown size (some imported ones) neither way.
    """
    if not sizes:
        return {"n": 0, "count": 0, "bytes_total": 0, "bytes_lasting": 0}
    n = sizes[0]["n"]
    known = [row for row in sizes if row["bytes"] is not None]
    count = sum(row["count"] for row in sizes)
    whole = sum(row["bytes"] * row["count"] for row in known)
    # A message is seen by its receiver, a collective by all: the mean of these is what it cost.
    seen = _gbps(whole * (1 if op == P2P else n), sum(row["seen"] for row in known))
    lasting = [row for row in known if row["lasting"]]
    moved = sum(row["bytes"] * row["lasting"] for row in lasting)
    free = _gbps(moved, sum(row["transfer"] for row in lasting))
    factor = BUS_FACTORS[op](n) if op in BUS_FACTORS else None
    return {
        "n": n,
        "count": count,
        "bytes_total": whole,
        "bytes_lasting": moved,
        "bytes_median": _median(known),
        "algbw_seen": seen if factor is not None else None,
        "busbw_seen": _times(seen, factor),
        "algbw_skew_free": free if factor is not None else None,
        "busbw_skew_free": _times(free, factor),
        "skew_ns_mean": sum(row["skew"] for row in sizes) / count,
    }


def _median(sizes: Sequence[dict[str, Any]]) -> float | None:
    """Of the sizes, in order, each as often as it occurs; of an even number the mean of the two in
    the middle.
    """
    count = sum(row["count"] for row in sizes)
    if not count:
        return None
    return (_at(sizes, (count - 1) // 2) + _at(sizes, count // 2)) / 2


def _at(sizes: Sequence[dict[str, Any]], place: int) -> int:
    for row in sizes:
        place -= row["count"]
        if place < 0:
            break
    size: int = row["bytes"]
    return size


def _gbps(size: int, time: int) -> float | None:
    return size / time if time > 0 else None


def _times(bandwidth: float | None, factor: float | None) -> float | None:
    return None if bandwidth is None or factor is None else bandwidth * factor
