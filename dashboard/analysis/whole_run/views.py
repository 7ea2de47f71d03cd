"""A run as seven plain tables: what SQL calls views, and what is exported as CSV and Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import P2P, measure_bandwidth
from dashboard.analysis.operations import operations
from dashboard.analysis.time_spent.accounting import account

if TYPE_CHECKING:
    from dashboard.runs import Recording

_MESSAGE: Final = ("group", "src", "dst", "seq")
_MEASURED: Final = (
    "transfer_ns",
    "skew_ns",
    "unwatched_ns",
    "seen_ns",
    "algbw_seen",
    "busbw_seen",
    "algbw_skew_free",
    "busbw_skew_free",
)
_RANKS: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("host", pa.string()),
        ("device", pa.string()),
        ("stages", pa.list_(pa.int32())),
        ("coordinates", pa.list_(pa.string())),
        ("dropped", pa.int64()),
    ]
)


def ranks(run: Recording) -> pa.Table:
    """One row per rank that could be read: rank, host, device, stages, coordinates (`pp=0`),
    dropped (events).
    """
    rows = [
        {
            "rank": rank,
            "host": run.facts[rank].host,
            "device": run.facts[rank].device,
            "stages": list(run.facts[rank].stages),
            "coordinates": [f"{k}={v}" for k, v in run.facts[rank].coordinates.items()],
            "dropped": run.facts[rank].dropped,
        }
        for rank in run.ranks
    ]
    return pa.Table.from_pylist(rows, schema=_RANKS)


def collectives(run: Recording) -> pa.Table:
    """One row per collective of the complete steps, in order of start.

    Columns: group, dim, op, seq, step, n (ranks of the group; null if no rank names it), bytes,
    dtype, start (first arrival) and end (last completion) in ns; what `measure_bandwidth` says
    of it, null where a member's record is missing; culprit_rank (last to arrive); missing (ranks
    of the group without a record); members: rank, start, end (ns) and wait_ns (from its arrival
    to the last one's) of each, by rank.

    Before (operations)                      After
    rank 0  all_reduce tp:0-1 #7  10..20     all_reduce tp:0-1 #7  n=2 start=10 end=20
    rank 1  all_reduce tp:0-1 #7  14..20       members: (0, 10, 20, 4), (1, 14, 20, 0)
    """
    calls = operations(run, run.steps)
    known = pc.and_(pc.is_valid(calls["group"]), pc.is_valid(calls["seq"]))
    is_message = pc.is_in(calls["op"], pa.array(["send", "recv"]))
    calls = calls.filter(pc.and_(known, pc.invert(is_message)))
    keys = [("group", "ascending"), ("seq", "ascending"), ("rank", "ascending")]
    calls = calls.sort_by(keys)
    first, size = _runs_of_equal(calls, ("group", "seq"))
    starts, ends = calls["start"].to_numpy(), calls["end"].to_numpy()
    last = _per_group(np.maximum, starts, first)
    heads = calls.take(pa.array(first))
    present = np.split(calls["rank"].to_numpy(), first[1:]) if len(first) else []
    groups = {name: set(g.ranks) for f in run.facts.values() for name, g in f.groups.items()}
    names = heads["group"].to_pylist()
    missing = [
        sorted(groups.get(name, set()) - set(here.tolist()))
        for name, here in zip(names, present, strict=True)
    ]
    n = [len(groups[name]) if name in groups else None for name in names]
    members = _members(calls, first, np.repeat(last, size) - starts)
    measured = run.answer(measure_bandwidth).operations
    measured = _matching(measured.filter(pc.not_equal(measured["op"], P2P)), heads)
    return pa.table(
        {
            **{name: heads[name] for name in ("group", "dim", "op", "seq", "step")},
            "n": pa.array(n, pa.int32()),
            **{name: heads[name] for name in ("bytes", "dtype")},
            "start": pa.array(_per_group(np.minimum, starts, first), pa.int64()),
            "end": pa.array(_per_group(np.maximum, ends, first), pa.int64()),
            **{name: measured[name] for name in (*_MEASURED, "culprit_rank")},
            "missing": pa.array(missing, pa.list_(pa.int32())),
            "members": members,
        }
    ).sort_by("start")


def p2p(run: Recording) -> pa.Table:
    """One row per message of the complete steps, in order of its send (else its receive).

    Columns: group, dim, src, dst, seq, step, microbatch, bytes, dtype, send_start, send_end,
    recv_start, recv_end in ns (null for an end that was not recorded), and what
    `measure_bandwidth` says of it, null where an end is missing; culprit_rank (last to arrive).
    A send ends when the sender may reuse its buffer, a receive when the data are there.
    """
    calls = operations(run, run.steps)
    known = pc.and_(
        pc.and_(pc.is_valid(calls["group"]), pc.is_valid(calls["seq"])), pc.is_valid(calls["peer"])
    )
    calls = calls.filter(known)
    sends, recvs = _ends(calls, "send", "rank", "peer"), _ends(calls, "recv", "peer", "rank")
    both = sends.join(recvs, list(_MESSAGE), join_type="full outer", right_suffix="_r")
    measured = run.answer(measure_bandwidth).operations
    measured = measured.filter(pc.equal(measured["op"], P2P))
    measured = measured.select([*_MESSAGE, *_MEASURED, "culprit_rank"])
    both = both.join(measured, list(_MESSAGE), join_type="left outer")
    shared = ("step", "microbatch", "bytes", "dtype")
    either = {name: pc.coalesce(both[name], both[f"{name}_r"]) for name in ("dim", *shared)}
    table = pa.table(
        {
            "group": both["group"],
            "dim": either["dim"],
            **{name: both[name] for name in ("src", "dst", "seq")},
            **{name: either[name] for name in shared},
            "send_start": both["send_start"],
            "send_end": both["send_end"],
            "recv_start": both["recv_start"],
            "recv_end": both["recv_end"],
            **{name: both[name] for name in (*_MEASURED, "culprit_rank")},
        }
    )
    begin = pc.coalesce(table["send_start"], table["recv_start"])
    return table.take(pc.sort_indices(begin))


VIEWS: Final[dict[str, Callable[[Recording], pa.Table]]] = {
    "events": lambda run: run.events(),
    "steps": lambda run: run.answer(account).windows,
    "accounting": lambda run: run.answer(account).table,
    "collectives": collectives,
    "p2p": p2p,
    "counters": lambda run: run.counters,
    "ranks": ranks,
}
"""View → what it holds; docs/concepts.md lists the columns."""


def _runs_of_equal(table: pa.Table, keys: Sequence[str]) -> tuple[Any, Any]:
    """Where each run of rows with equal keys begins in a sorted table, and how long it is."""
    rows = table.num_rows
    if rows == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    changes = np.zeros(rows, bool)
    changes[0] = True
    for key in keys:
        values = table[key].combine_chunks()
        changes[1:] |= pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    first = np.flatnonzero(changes)
    return first, np.diff(np.append(first, rows))


def _per_group(reduce: np.ufunc, values: Any, first: Any) -> Any:
    return reduce.reduceat(values, first) if len(first) else np.empty(0, np.int64)


def _members(calls: pa.Table, first: Any, wait: Any) -> pa.ListArray:
    columns = [
        calls["rank"].combine_chunks(),
        calls["start"].combine_chunks(),
        calls["end"].combine_chunks(),
        pa.array(wait, pa.int64()),
    ]
    rows = pa.StructArray.from_arrays(columns, names=["rank", "start", "end", "wait_ns"])
    offsets = np.append(first, calls.num_rows).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), rows)


def _matching(measured: pa.Table, heads: pa.Table) -> pa.Table:
    """The row of `measured` for each row of `heads` with its group and seq; nulls where none."""
    keys = zip(measured["group"].to_pylist(), measured["seq"].to_pylist(), strict=True)
    places = {key: place for place, key in enumerate(keys)}
    wanted = zip(heads["group"].to_pylist(), heads["seq"].to_pylist(), strict=True)
    return measured.take(pa.array([places.get(key) for key in wanted], pa.int64()))


def _ends(calls: pa.Table, op: str, src: str, dst: str) -> pa.Table:
    """One end of each message; of a number that was used twice, the first."""
    mine = calls.filter(pc.equal(calls["op"], op)).sort_by("start")
    suffix = "" if op == "send" else "_r"
    table = pa.table(
        {
            "group": mine["group"],
            "src": mine[src],
            "dst": mine[dst],
            "seq": mine["seq"],
            **{
                f"{name}{suffix}": mine[name]
                for name in ("dim", "step", "microbatch", "bytes", "dtype")
            },
            f"{op}_start": mine["start"],
            f"{op}_end": mine["end"],
        }
    )
    rest = [name for name in table.column_names if name not in _MESSAGE]
    once = table.group_by(list(_MESSAGE), use_threads=False).aggregate([(n, "first") for n in rest])
    return once.rename_columns([name.removesuffix("_first") for name in once.column_names])
