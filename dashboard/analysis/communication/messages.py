"""Messages summed up: what each pair of ranks sent, and how fast."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import P2P


def message_totals(operations: pa.Table) -> pa.Table:
    """Messages between pairs of ranks, in order of src and dst: src, dst, count, bytes (total),
    and gbps: total bytes over total skew-free transfer time (null where that is 0).
    """
    messages = operations.filter(pc.equal(operations["op"], P2P))
    real = pc.greater(messages["transfer_ns"], 0)
    timed = pc.if_else(real, messages["transfer_ns"], 0)
    sized = pc.if_else(real, messages["bytes"], 0)
    grouped = (
        messages.select(["src", "dst", "bytes"])
        .append_column("timed", timed)
        .append_column("sized", sized)
        .group_by(["src", "dst"], use_threads=False)
        .aggregate([("bytes", "count"), ("bytes", "sum"), ("timed", "sum"), ("sized", "sum")])
    )
    time = pc.cast(grouped["timed_sum"], pa.float64())
    gbps = pc.divide(grouped["sized_sum"], pc.if_else(pc.greater(time, 0), time, None))
    table = pa.table(
        {
            "src": grouped["src"],
            "dst": grouped["dst"],
            "count": grouped["bytes_count"],
            "bytes": grouped["bytes_sum"],
            "gbps": gbps,
        }
    )
    return table.sort_by([("src", "ascending"), ("dst", "ascending")])
