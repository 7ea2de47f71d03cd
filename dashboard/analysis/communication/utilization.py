"""Bytes on the wire over time: what the links of each mesh dimension carried per time bin.

An operation puts bytes x bus factor on its link while it transfers (skew-free: from the last
arrival to the last completion), evenly. Dividing a bin's bytes by its length gives GB/s,
comparable with the peak of the link. A *link* is what one bandwidth describes: a process group
for collectives, a pair source → destination for messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import BUS_FACTORS, Bandwidth
from dashboard.analysis.results import Result

_SCHEMA: Final = pa.schema(
    [
        ("dim", pa.string()),
        ("start", pa.int64()),
        ("gbps", pa.float64()),
        ("links", pa.int32()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class Utilization(Result):
    """table: dim, start (ns, of the bin), gbps: mean over the dimension's links, links: how many
    of them carried anything; a row per dimension and bin.
    """

    table: pa.Table
    bin_ns: int


def utilization(bandwidth: Bandwidth, *, bins: int = 200) -> Utilization:
    """Cut the time from the first to the last operation into `bins` equal bins."""
    found = bandwidth.operations
    begin, end = _span(found)
    width = max(-(-(end - begin) // bins), 1)
    edges = begin + width * np.arange(bins + 1, dtype=np.int64)
    parts = []
    for dim in sorted(set(found["dim"].to_pylist())):
        chosen = found.filter(pc.equal(found["dim"], dim))
        links = _links(chosen)
        carried = _binned(chosen, edges) / (links * width)
        columns = {"dim": [dim] * bins, "start": edges[:-1], "gbps": carried}
        parts.append(pa.table(columns | {"links": [links] * bins}, schema=_SCHEMA))
    return Utilization(table=pa.concat_tables([_SCHEMA.empty_table(), *parts]), bin_ns=width)


def _links(chosen: pa.Table) -> int:
    used = zip(*(chosen[name].to_pylist() for name in ("group", "src", "dst")), strict=True)
    return len(set(used))


def _span(found: pa.Table) -> tuple[int, int]:
    if found.num_rows == 0:
        return 0, 0
    last = pc.add(pc.add(found["start"], found["skew_ns"]), found["transfer_ns"])
    return pc.min(found["start"]).as_py(), pc.max(last).as_py()


def _binned(chosen: pa.Table, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Bytes that fall into each bin, by the difference of bytes sent up to its two edges."""
    start = (chosen["start"].to_numpy() + chosen["skew_ns"].to_numpy()).astype(np.float64)
    length = np.maximum(chosen["transfer_ns"].to_numpy(), 1).astype(np.float64)
    factors = [
        BUS_FACTORS[op](n) if op in BUS_FACTORS else 0.0
        for op, n in zip(chosen["op"].to_pylist(), chosen["n"].to_pylist(), strict=True)
    ]
    size = pc.fill_null(chosen["bytes"], 0).to_numpy() * np.array(factors)
    first = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, len(edges) - 2)
    last = np.clip(np.searchsorted(edges, start + length, side="left") - 1, first, len(edges) - 2)
    counts = last - first + 1
    owner = np.repeat(np.arange(len(size)), counts)
    bin_ = (
        np.repeat(first, counts)
        + np.arange(counts.sum())
        - np.repeat(np.cumsum(counts) - counts, counts)
    )
    inside = np.minimum(edges[bin_ + 1], (start + length)[owner]) - np.maximum(
        edges[bin_], start[owner]
    )
    share = size[owner] * np.clip(inside, 0, None) / length[owner]
    return np.bincount(bin_, share, minlength=len(edges) - 1).astype(np.float64)
