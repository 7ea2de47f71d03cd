"""Who waited for whom: time in which a rank was held up, given to the rank that ended it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.waiting import links_of
from dashboard.analysis.device_view import as_devices_ran
from dashboard.analysis.operations import operations
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import numbered, sums, words_numbered
from dashboard.analysis.steps import step_windows

if TYPE_CHECKING:
    from dashboard.runs import Recording

_TABLE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("culprit_rank", pa.int32()),
        ("dim", pa.string()),
        ("wait_ns", pa.float64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class Waits(Result):
    """table: rank, culprit_rank, dim (mesh dimension of the operation), and wait_ns: per step, the
    mean over `steps` steps; the largest first. The transfer itself is nobody's, and not in it.
    """

    table: pa.Table
    steps: int


def waits_by_culprit(run: Recording, steps: Collection[int] | None = None) -> Waits:
    """Of all complete steps, or of those of `steps`.

    A rank waits from when it is blocked in an operation: for a message, until the other end had
    begun it; for a collective, until the last member had arrived. Where it was blocked only after
    that, it waited for nobody.

    rank 1 waits 0-11 for a message that rank 0 sends at 10 → rank 1, culprit 0, wait 10
    """
    run = as_devices_ran(run)
    windows = step_windows(run, steps)
    counted = sorted(set(windows["step"].to_pylist()))
    rows = operations(run, counted)
    links = links_of(rows)
    rank = rows["rank"].to_numpy().astype(np.int64)
    waiting = rank[links.row]
    ended_by = links.by.copy()
    ended_by[links.arrival >= 0] = links.last_row[links.arrival[links.arrival >= 0]]
    culprit = rank[ended_by]
    begin, end = links.blocks.begin[links.row], links.blocks.end[links.row]
    waited = np.minimum(links.cause, end) - begin
    counts = (waited > 0) & (culprit != waiting)
    dims, dim = words_numbered(pc.fill_null(rows["dim"], ""))
    dim = dim[links.row][counts]
    waiting, culprit = waiting[counts], culprit[counts]
    first, of = numbered(waiting, culprit, dim)
    totals = sums(of, waited[counts], len(first))
    in_order = np.argsort(first)
    chosen = first[in_order]
    found = {
        "rank": waiting[chosen],
        "culprit_rank": culprit[chosen],
        "dim": [dims[number] for number in dim[chosen]],
        "wait_ns": totals[in_order] / max(len(counted), 1),
    }
    ordered = [("wait_ns", "descending"), ("rank", "ascending"), ("culprit_rank", "ascending")]
    table = pa.table(found, schema=_TABLE).sort_by(ordered)
    return Waits(table=table, steps=len(counted))
