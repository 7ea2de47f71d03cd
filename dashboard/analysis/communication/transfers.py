"""Which operations tell how fast a link is: those whose end somebody waited for.

An operation that nobody waits for has no recorded end before the next look at it. A message that
lay there when its receiver came back from computing says nothing of the link.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import BUS_FACTORS

WATCHED_SHARE: Final = 0.5
"""Of the transfer, waited for. In recorded runs most operations were waited for either nearly from
the beginning or not at all, so that it matters little where between the two the line is."""


def telling_transfers(operations: pa.Table) -> pa.Table:
    """The rows of `Bandwidth.operations` with a payload and a transfer of over 0 ns that all who
    tell its end waited for during at least half of it.

    Before (operations)                              After
    p2p, transfer_ns 40, unwatched_ns 0              p2p, transfer_ns 40, unwatched_ns 0
    p2p, transfer_ns 900, unwatched_ns 890
    barrier, no bytes
    """
    transfer = operations["transfer_ns"].to_numpy()
    unwatched = operations["unwatched_ns"].to_numpy()
    size = pc.fill_null(operations["bytes"], 0).to_numpy()
    known = pc.is_in(operations["op"], pa.array(list(BUS_FACTORS))).to_numpy(zero_copy_only=False)
    chosen = (transfer > 0) & (size > 0) & (unwatched <= (1 - WATCHED_SHARE) * transfer) & known
    return operations.filter(pa.array(np.asarray(chosen, bool)))
