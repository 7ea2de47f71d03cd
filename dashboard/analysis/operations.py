"""One row per communication operation and rank: its call, its wait, and when it was complete.

A call, its wait and its transfer are separate events that share `correlation`; the analyses
want them side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.dimensions import Role, role_of
from dashboard.runs.words import have, where
from tracer.arrays import word_array
from tracer.schema import OPERATION_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

_COLUMNS: Final = (
    "start",
    "duration",
    "kind",
    "name",
    "lane",
    "step",
    "stage",
    "microbatch",
    "group",
    "seq",
    "peer",
    "bytes",
    "dtype",
    "correlation",
)


def operations(
    run: Recording,
    steps: Collection[int] | None = None,
    *,
    ranks: Collection[int] | None = None,
    within: Sequence[tuple[int, int]] | None = None,
) -> pa.Table:
    """Operations of all ranks (or of `ranks`), in order of `start` per rank; if `within` is given,
    those that start in one of these stretches (ns, the end included).

    Columns: rank, step, op, dim, group, seq, peer, bytes, dtype, stage, microbatch, correlation,
    start and call_end (of the call), wait_start and wait_end (null where nobody waited), end: the
    completion, which is the end of the transfer, else of the wait, else of the call, and
    watched_from: when somebody began to wait for that end (the start, if it was not a wait).
    All times in ns on the common clock. `dim` is the group's mesh dimension. In an imported run
    an operation with a kernel lasts as long as the kernel: the rank has arrived when that begins.

    Before (events)                              After
    collective all_reduce corr=7  10..11         op=all_reduce start=10 call_end=11
    wait       all_reduce corr=7  12..20         wait_start=12 wait_end=20 end=20
    """
    events = run.events(ranks=ranks, steps=steps, kinds=OPERATION_KINDS, columns=_COLUMNS)
    on_host = where(events["lane"], lambda lanes: pc.starts_with(lanes, "host:"))
    is_wait = have(events["kind"], ("wait",))
    calls = events.filter(pc.and_(on_host, pc.invert(is_wait)))
    if within is not None:
        calls = calls.filter(_starts_within(calls, within))
    waits = events.filter(is_wait)
    transfers = events.filter(pc.and_(pc.invert(on_host), pc.invert(is_wait)))

    start = calls["start"].to_numpy()
    call_end = start + calls["duration"].to_numpy()
    key = _key(calls)
    wait_start, wait_end = _spans_of(key, waits)
    transfer_start, transfer_end = _spans_of(key, transfers)
    if run.meta.source is not None:  # its transfers are kernels: the host only queued them
        has_kernel = transfer_end >= 0
        start = np.where(has_kernel, np.maximum(transfer_start, start), start)
        call_end = np.where(has_kernel, np.maximum(transfer_end, call_end), call_end)
    end = np.where(transfer_end >= 0, transfer_end, np.maximum(wait_end, call_end))
    # Between its call and its wait a rank does something else, and cannot see an end.
    by_wait = (wait_end == end) & (wait_start > call_end)
    return pa.table(
        {
            "rank": calls["rank"],
            "step": calls["step"],
            "op": calls["name"].cast(pa.string()),
            "dim": _dimensions(calls["group"]),
            "group": calls["group"].cast(pa.string()),
            "seq": calls["seq"],
            "peer": calls["peer"],
            "bytes": calls["bytes"],
            "dtype": calls["dtype"].cast(pa.string()),
            "stage": calls["stage"],
            "microbatch": calls["microbatch"],
            "correlation": calls["correlation"],
            "start": start,
            "call_end": call_end,
            "wait_start": pa.array(wait_start, mask=wait_end < 0),
            "wait_end": pa.array(wait_end, mask=wait_end < 0),
            "end": end,
            "watched_from": np.where(by_wait, wait_start, start),
        }
    )


def _starts_within(calls: pa.Table, within: Sequence[tuple[int, int]]) -> pa.Array:
    start = calls["start"].to_numpy()
    found = np.zeros(len(start), np.bool_)
    for begin, end in within:
        found |= (start >= begin) & (start <= end)
    return pa.array(found)


def _dimensions(groups: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of each row's group; empty where it has none. Each word is looked at once."""
    chunks = []
    for chunk in groups.chunks:
        words = chunk.dictionary.to_pylist()
        dims = word_array([(word or "").partition(":")[0] for word in words])
        chunks.append(pc.fill_null(dims.take(chunk.indices), ""))
    return pa.chunked_array(chunks, pa.string())


def category_of(dim: str) -> str:
    """`comm:tp` of `tp`, `comm:dp` of `dp_shard`; what has no role is `comm:other`."""
    return f"comm:{role_of(dim)}"


def in_role(operations: pa.Table, role: Role) -> pa.Table:
    """The operations of dimensions with that role."""
    names = pc.unique(operations["dim"]).drop_null().to_pylist()
    wanted = pa.array([name for name in names if role_of(name) == role], pa.string())
    return operations.filter(pc.is_in(operations["dim"], wanted))


def _key(table: pa.Table) -> npt.NDArray[np.int64]:
    """Rank and correlation in one number; operations without correlation match nothing."""
    correlation = pc.fill_null(table["correlation"], -1).to_numpy()
    rank = table["rank"].to_numpy().astype(np.int64)
    return np.where(correlation < 0, -1, (rank << 40) | correlation)


def _spans_of(
    wanted: npt.NDArray[np.int64], table: pa.Table
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First start and last end of the rows of `table` with each wanted key; -1 where none."""
    key = _key(table)
    order = np.argsort(key, kind="stable")
    key = key[order]
    start = table["start"].to_numpy()[order]
    end = start + table["duration"].to_numpy()[order]
    low = np.searchsorted(key, wanted, side="left")
    high = np.searchsorted(key, wanted, side="right")
    found = (high > low) & (wanted >= 0)
    first = np.full(len(wanted), -1, np.int64)
    last = np.full(len(wanted), -1, np.int64)
    first[found] = start[low[found]]
    last[found] = end[high[found] - 1]
    return first, last
