"""Bandwidth of every operation: algbw and busbw, as seen and free of arrival skew.

    algbw = bytes / time        busbw = algbw x factor(op, n)

The bytes are the total size S of nccl-tests and the factors are its (doc/PERFORMANCE.md). *As
seen* uses the mean time of the members from their own arrival to completion: what it cost.
*Skew-free* uses the time from the last arrival to the last completion: what the link did.
1 GB/s = 1e9 B/s, which is one byte per nanosecond.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth_totals import BUS_FACTORS, summary_of, totals_of
from dashboard.analysis.communication.partial_communication import (
    P2P,
    UNKNOWN_GROUP,
    Lost,
    PartialCommunication,
    counted,
    joined,
    partial_communication,
)
from dashboard.analysis.operations import operations
from dashboard.analysis.reduction import reduced
from dashboard.analysis.results import Result
from dashboard.analysis.steps import wanted_steps

if TYPE_CHECKING:
    from dashboard.runs import Recording

__all__ = [
    "BUS_FACTORS",
    "P2P",
    "UNKNOWN_GROUP",
    "Bandwidth",
    "bandwidth_of",
    "bandwidth_summary",
    "complete_operations",
    "in_order",
    "measure_bandwidth",
]


@dataclass(kw_only=True, frozen=True)
class Bandwidth(Result):
    """Bandwidth of each operation, and summed up.

    operations: one row per collective (all members) or message (both ends): group, dim, op, seq,
        step, n, bytes, dtype, start, transfer_ns (skew-free), skew_ns (last arrival minus first),
        unwatched_ns (how much of transfer_ns had passed before all who tell its end waited for
        it, and by how much it may be too long), seen_ns, algbw_seen, busbw_seen,
        algbw_skew_free, busbw_skew_free in GB/s, culprit_rank (last to arrive), and src, dst of
        messages. The op of messages is `p2p`.
    summary: per group and op: dim, n, count, bytes_total, bytes_lasting (of the operations
        that took time free of skew), bytes_median, the four bandwidths as
        total bytes over total time, skew_ns_mean, and incomplete: the operations left out because
        a member's record is missing, and the records that name no group, number or peer by which
        they could be matched (those without a group are of the group `unknown`).
    """

    operations: pa.Table
    summary: pa.Table


def measure_bandwidth(run: Recording, steps: Collection[int] | None = None) -> Bandwidth:
    """Measure all communication that lies in a step (or in those of `steps`)."""
    wanted = wanted_steps(run, steps)
    parts = (partial_communication(operations(run, wanted, ranks=[rank])) for rank in run.ranks)
    return bandwidth_of(run, reduced(parts, joined))


def bandwidth_summary(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """`Bandwidth.summary`, for who does not need the operations: by parts, it needs no row of them
    (dashboard.cluster).
    """
    return run.answer(measure_bandwidth, steps).summary


def bandwidth_of(run: Recording, found: PartialCommunication) -> Bandwidth:
    """The bandwidth of the operations that the parts of all ranks, joined, tell of."""
    rows, lost = complete_operations(run, found)
    return Bandwidth(operations=in_order([rows]), summary=summary_of(totals_of(rows, lost)))


def complete_operations(run: Recording, found: PartialCommunication) -> tuple[pa.Table, Lost]:
    """The operations of which all members are there, in no order: as `Bandwidth.operations`, and
    seen_sum, the time as seen by all members together. And what is left out.
    """
    members = {name: len(g.ranks) for f in run.facts.values() for name, g in f.groups.items()}
    collectives, incomplete = _collectives(found.collectives, members)
    messages, half = _messages(found.sends, found.receives)
    return pa.concat_tables([collectives, messages]), found.lost + incomplete + half


def in_order(parts: Sequence[pa.Table]) -> pa.Table:
    """`Bandwidth.operations` of all parts of `complete_operations`."""
    return pa.concat_tables(parts).drop_columns("seen_sum").sort_by(_ORDER)


_ORDER: Final = [(key, "ascending") for key in ("start", "group", "op", "seq", "src", "dst")]
"""No two operations agree in all of it, so that their order does not hang on how they were read."""


def _collectives(table: pa.Table, members: dict[str, int]) -> tuple[pa.Table, Lost]:
    expected = np.array([members.get(g, 0) for g in table["group"].to_pylist()], np.int64)
    complete = table["members"].to_numpy() == expected
    partial = table.filter(pa.array(~complete))
    lost = counted(partial["group"].to_pylist(), partial["op"].to_pylist())
    table = table.filter(pa.array(complete))
    nothing = pa.nulls(table.num_rows, pa.int32())
    return _rows(
        group=table["group"],
        dim=table["dim"],
        op=table["op"],
        seq=table["seq"],
        step=table["step"],
        n=expected[complete],
        bytes_=table["bytes"],
        dtype=table["dtype"],
        first=table["first"].to_numpy(),
        last=table["last"].to_numpy(),
        end=table["end"].to_numpy(),
        watched=table["watched_from"].to_numpy(),
        seen_sum=table["seen"].to_numpy(),
        seen_by=expected[complete],
        culprit=table["culprit"],
        src=nothing,
        dst=nothing,
    ), lost


def _messages(sends: pa.Table, receives: pa.Table) -> tuple[pa.Table, Lost]:
    keys = ["group", "src", "dst", "seq"]
    both = sends.join(receives, keys, join_type="full outer", right_suffix="_recv")
    complete = pc.and_(pc.is_valid(both["start"]), pc.is_valid(both["start_recv"]))
    lost = counted(both.filter(pc.invert(complete))["group"].to_pylist(), P2P)
    lost += _again(sends) + _again(receives)
    both = both.filter(complete)
    sent, posted = both["start"].to_numpy(), both["start_recv"].to_numpy()
    end = both["end_recv"].to_numpy()
    late_sender = sent >= posted
    return _rows(
        group=both["group"],
        dim=both["dim"],
        op=pa.array([P2P] * both.num_rows, pa.string()),
        seq=both["seq"],
        step=both["step"],
        n=np.full(both.num_rows, 2, np.int64),
        bytes_=both["bytes"],
        dtype=both["dtype"],
        first=np.minimum(sent, posted),
        last=np.maximum(sent, posted),
        end=end,
        watched=both["watched_from_recv"].to_numpy(),
        seen_sum=end - posted,
        seen_by=np.ones(both.num_rows, np.int64),
        culprit=pa.array(
            np.where(late_sender, both["src"].to_numpy(), both["dst"].to_numpy()).astype(np.int32)
        ),
        src=both["src"],
        dst=both["dst"],
    ), lost


def _again(ends: pa.Table) -> Lost:
    """Messages under a number that their group had used before."""
    repeated = ends.filter(pc.greater(ends["times"], 1))
    lost: Lost = Counter()
    for group, times in zip(*repeated.select(["group", "times"]).columns, strict=True):
        lost[group.as_py(), P2P] += times.as_py() - 1
    return lost


def _rows(
    *,
    group: pa.ChunkedArray,
    dim: pa.ChunkedArray,
    op: pa.ChunkedArray | pa.Array,
    seq: pa.ChunkedArray,
    step: pa.ChunkedArray,
    n: npt.NDArray[np.int64],
    bytes_: pa.ChunkedArray,
    dtype: pa.ChunkedArray,
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    watched: npt.NDArray[np.int64],
    seen_sum: npt.NDArray[np.int64],
    seen_by: npt.NDArray[np.int64],
    culprit: pa.ChunkedArray | pa.Array,
    src: pa.ChunkedArray | pa.Array,
    dst: pa.ChunkedArray | pa.Array,
) -> pa.Table:
    size = pc.fill_null(bytes_.cast(pa.float64()), np.nan).to_numpy()
    factor = _factors(op.to_pylist(), n)
    transfer, seen = end - last, seen_sum / seen_by
    algbw_seen, algbw_free = _per(size, seen), _per(size, transfer)
    return pa.table(
        {
            "group": group,
            "dim": dim,
            "op": op,
            "seq": seq,
            "step": step,
            "n": pa.array(n.astype(np.int32)),
            "bytes": bytes_,
            "dtype": dtype,
            "start": first,
            "transfer_ns": transfer,
            "skew_ns": last - first,
            "unwatched_ns": np.clip(watched - last, 0, np.maximum(transfer, 0)),
            "seen_ns": seen,
            "algbw_seen": _bandwidth(algbw_seen),
            "busbw_seen": _bandwidth(algbw_seen * factor),
            "algbw_skew_free": _bandwidth(algbw_free),
            "busbw_skew_free": _bandwidth(algbw_free * factor),
            "culprit_rank": culprit,
            "src": src,
            "dst": dst,
            "seen_sum": seen_sum,
        }
    )


def _factors(ops: list[str], n: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """busbw / algbw per row; NaN for operations that have no bandwidth."""
    pairs = zip(ops, n.tolist(), strict=True)
    return np.array([BUS_FACTORS[op](k) if op in BUS_FACTORS else np.nan for op, k in pairs])


def _per(
    size: npt.NDArray[np.float64], time: npt.NDArray[np.int64] | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """size / time, NaN where no time passed."""
    result: npt.NDArray[np.float64] = np.full(len(size), np.nan)
    np.divide(size, time, out=result, where=time > 0)
    return result


def _bandwidth(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))
