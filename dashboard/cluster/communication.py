"""Communication by parts: what each rank tells goes to its shares, where it becomes sums.

Each share has all that any rank tells of its operations (dashboard.analysis.communication.shares),
and joins that of sixteen tasks at a time. Of what comes out, only sums by group, operation and size
are joined with those of other shares; the operations themselves only where somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import (
    Bandwidth,
    bandwidth_summary,
    complete_operations,
    in_order,
    measure_bandwidth,
)
from dashboard.analysis.communication.bandwidth_totals import (
    BandwidthTotals,
    added,
    summary_of,
    totals_of,
)
from dashboard.analysis.communication.partial_communication import (
    PartialCommunication,
    joined,
    partial_communication,
)
from dashboard.analysis.communication.shares import asking, in_turns, shared, shares
from dashboard.analysis.reduction import FAN_IN
from dashboard.cluster.opened import opened
from dashboard.cluster.pieces import Piece
from dashboard.cluster.tasks import Analysis, Task, tree
from dashboard.runs import Recording
from dashboard.runs.reopening import Opening


@dataclass(kw_only=True, slots=True, frozen=True)
class Matched:
    """Of one share: the sums, and the operations (`complete_operations`) if they are asked for."""

    totals: BandwidthTotals
    rows: pa.Table | None


def asks_for_bandwidth(asked: Collection[Analysis]) -> bool:
    """Whether these analyses are among those that need what is matched here."""
    return measure_bandwidth in asked or bandwidth_summary in asked


def add_shares(
    tasks: dict[str, Task], run: Recording, pieces: Sequence[Piece], asked: Collection[Analysis]
) -> list[str]:
    """Add the tasks of all shares; the names of those that have them matched. pieces: those that
    the tasks `part-0` and so on summarize.
    """
    of_rank: dict[int, list[int]] = {}
    for number, piece in enumerate(pieces):
        for rank in piece.ranks:
            of_rank.setdefault(rank, []).append(number)
    matched = []
    with_rows = measure_bandwidth in asked
    for place, share in enumerate(shares(run)):
        told = []
        for number in sorted({number for rank in share.ranks for number in of_rank[rank]}):
            told.append(f"share-{place}-of-{number}")
            tasks[told[-1]] = Task(
                call=_told, arguments=(place,), needs=(f"part-{number}",), picks=True
            )
        if len(told) > FAN_IN:
            told = [tree(tasks, f"share-{place}", told, _joined)]
        matched.append(f"matched-{place}")
        tasks[matched[-1]] = Task(call=_matched, arguments=(with_rows,), needs=("run", *told))
    return matched


def add_told(
    so_far: dict[int, list[PartialCommunication]], told: Mapping[int, PartialCommunication]
) -> None:
    """Add what the next rank of a task tells, by share; no more than `FAN_IN` are kept of each."""
    for place, part in told.items():
        waiting = so_far.setdefault(place, [])
        waiting.append(part)
        if len(waiting) == FAN_IN:
            so_far[place] = [joined(waiting)]


def communication_of(
    run: Recording, issued: pa.Table, rank: int, steps: Sequence[int]
) -> dict[int, PartialCommunication]:
    """What a part of a rank tells each share: the operations that it issued in `steps`; they may
    end in other steps. issued: the `operations` of the part.
    """
    mine = pc.is_in(issued["step"], pa.array(sorted(steps), pa.int32()))
    return shared(partial_communication(issued.filter(mine)), asking(run, rank))


def bandwidths(matched: Sequence[Matched]) -> dict[Analysis, Any]:
    """The answers that all shares together give."""
    if not matched:
        return {}
    summary = summary_of(added([part.totals for part in matched]))
    rows = [part.rows for part in matched if part.rows is not None]
    found: dict[Analysis, Any] = {bandwidth_summary: summary}
    if rows:
        found[measure_bandwidth] = Bandwidth(operations=in_order(rows), summary=summary)
    return found


def _told(place: int, found: Any) -> PartialCommunication:
    told: PartialCommunication = found.communication[place]
    return told


def _joined(*parts: PartialCommunication) -> PartialCommunication:
    return joined(parts)


def _matched(
    with_rows: bool, opening: Opening | Recording, *parts: PartialCommunication
) -> Matched:
    run = opened(opening)
    totals, rows = [], []
    for turn in in_turns(joined(parts)):
        found, lost = complete_operations(run, turn)
        totals.append(totals_of(found, lost))
        if with_rows:
            rows.append(found)
    return Matched(totals=added(totals), rows=pa.concat_tables(rows) if with_rows else None)
