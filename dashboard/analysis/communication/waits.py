"""Who waited for whom: time in which a rank was held up, given to the rank that ended it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from dashboard.analysis.communication.waiting import Link, block_of, links_of
from dashboard.analysis.device_view import as_devices_ran
from dashboard.analysis.operations import operations
from dashboard.analysis.results import Result
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
_LAST_ARRIVAL: Final = -1
"""What `links_of` gives as the cause of the end of a collective."""


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
    rows = operations(run, counted).to_pylist()
    blocks = {id(row): block_of(row) for row in rows}
    links, arrivals = links_of(rows, blocks)
    last = {
        key: max(members, key=lambda row: (row["start"], -row["rank"]))["rank"]
        for key, members in arrivals.items()
    }
    spent: Counter[tuple[int, int, str]] = Counter()
    for link in links:
        for culprit, waited in _waited(link, last):
            spent[link.block.row["rank"], culprit, link.block.row["dim"] or ""] += waited
    found = [
        {"rank": rank, "culprit_rank": culprit, "dim": dim, "wait_ns": total / len(counted)}
        for (rank, culprit, dim), total in spent.items()
    ]
    ordered = [("wait_ns", "descending"), ("rank", "ascending"), ("culprit_rank", "ascending")]
    table = pa.Table.from_pylist(found, schema=_TABLE).sort_by(ordered)
    return Waits(table=table, steps=len(counted))


def _waited(link: Link, last: dict[tuple[str, int], int]) -> Iterator[tuple[int, int]]:
    """The culprit and how long it was waited for, where it was."""
    culprit = link.cause_rank
    if culprit == _LAST_ARRIVAL and link.arrival is not None:
        culprit = last[link.arrival]
    waited = min(link.cause, link.block.end) - link.block.begin
    if waited > 0 and culprit != link.block.row["rank"]:
        yield culprit, waited
