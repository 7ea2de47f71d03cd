"""Bandwidth by operation, group, size and rank: what each member measures of the same operations.

A rank's time *as seen* is from its own start to its own completion, what the operation cost it;
*skew-free* it is from the last arrival of all members to its own completion. Members that come
early see little bandwidth, the last one nearly the link's; where one is slow skew-free, its own
end is slow: its host, its link.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import BUS_FACTORS, P2P, measure_bandwidth
from dashboard.analysis.operations import operations
from dashboard.analysis.steps import wanted_steps

if TYPE_CHECKING:
    from dashboard.runs import Recording

_BY: Final = ("group", "dim", "op", "bytes", "rank")
_SCHEMA: Final = pa.schema(
    [
        ("group", pa.string()),
        ("dim", pa.string()),
        ("op", pa.string()),
        ("bytes", pa.int64()),
        ("rank", pa.int32()),
        ("n", pa.int32()),
        ("count", pa.int64()),
        ("seen_ns", pa.float64()),
        ("skew_free_ns", pa.float64()),
        ("busbw_seen", pa.float64()),
        ("busbw_skew_free", pa.float64()),
    ]
)


def bandwidth_by_rank(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """A row per group, op, size and rank, in that order; complete operations with a payload only.

    op is `send` or `recv` for the two ends of a message. count; medians of the rank's own times
    seen_ns and skew_free_ns, and of busbw_seen and busbw_skew_free (GB/s), null where no time
    passed: a send of which the rank took no notice.

    Before (an all_reduce of 4,000 B over 3 ranks)   After
    last arrival 160, rank 0: 100 to 200             rank 0: seen 100, skew-free 40
    rank 1: 120 to 190                               rank 1: seen 70, skew-free 30
    """
    return _medians(member_times(run, steps))


def member_times(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """A row per rank and complete operation with a payload: the columns of `operations`, n (how
    many members), and in ns `seen`, from the rank's own start to its completion, and `free`, from
    the last arrival on.
    """
    wanted = wanted_steps(run, steps)
    members = _members(operations(run, wanted))
    shared = run.answer(measure_bandwidth, steps).operations
    shared = shared.filter(pc.greater(pc.fill_null(shared["bytes"], 0), 0))
    last = pc.add(shared["start"], shared["skew_ns"])
    keys = shared.select(["group", "seq", "src", "dst", "n"]).append_column("last", last)
    joined = _unordered(members).join(_unordered(keys), _KEYS, join_type="inner")
    seen = pc.subtract(joined["end"], joined["start"])
    free = pc.subtract(joined["end"], joined["last"])
    return joined.append_column("seen", seen).append_column("free", free)


_KEYS: Final = ("group", "seq", "source", "destination")


def _members(table: pa.Table) -> pa.Table:
    """Each rank's part of each operation, with the two ends of a message in order."""
    is_send, is_recv = pc.equal(table["op"], "send"), pc.equal(table["op"], "recv")
    none = pa.nulls(table.num_rows, pa.int32())
    src = pc.if_else(is_send, table["rank"], pc.if_else(is_recv, table["peer"], none))
    dst = pc.if_else(is_send, table["peer"], pc.if_else(is_recv, table["rank"], none))
    return table.append_column("src", src).append_column("dst", dst)


def _unordered(table: pa.Table) -> pa.Table:
    """Null does not equal null in a join: collectives have no ends, which is -1 here."""
    for name, end in (("source", "src"), ("destination", "dst")):
        table = table.append_column(name, pc.fill_null(table[end].cast(pa.int64()), -1))
    return table.drop_columns(["src", "dst"])


def _medians(timed: pa.Table) -> pa.Table:
    grouped = timed.group_by([*_BY, "n"], use_threads=False).aggregate(
        [("seen", "list"), ("free", "list")]
    )
    rows = []
    for row in grouped.to_pylist():
        op = P2P if row["op"] in ("send", "recv") else row["op"]
        factor = BUS_FACTORS[op](row["n"]) if op in BUS_FACTORS else None
        seen_ns, free_ns = (float(np.median(row[f"{name}_list"])) for name in ("seen", "free"))
        rows.append(
            {name: row[name] for name in (*_BY, "n")}
            | {
                "count": len(row["seen_list"]),
                "seen_ns": seen_ns,
                "skew_free_ns": free_ns,
                "busbw_seen": _busbw(row["bytes"], seen_ns, factor),
                "busbw_skew_free": _busbw(row["bytes"], free_ns, factor),
            }
        )
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    return table.sort_by([(name, "ascending") for name in _BY])


def _busbw(size: int, time_ns: float, factor: float | None) -> float | None:
    return size * factor / time_ns if factor is not None and time_ns > 0 else None
