"""What lies in a marked stretch of time, looked up where the timeline has sums.

The numbers are those of `select` (analysis/time_spent/selection.py), to the nanosecond and the
byte. It goes through all events of the ranks; here, two look-ups per rank and row give the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.time_spent.selection import Selection, by_time, chosen_ranks, select
from dashboard.timeline.by_category import spent
from dashboard.timeline.by_name import (
    CODE,
    COUNT,
    DURATION,
    LONGEST,
    NO_BYTES,
    PAYLOAD,
    NameSums,
    added_up,
    of_single,
    stretches,
)
from dashboard.timeline.segments import touching
from tracer.schema import KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording
    from dashboard.timeline.lanes import Sums, Timeline

Ints = NDArray[np.int64]


def selected(
    run: Recording, timeline: Timeline, begin: int, end: int, ranks: Collection[int] | None = None
) -> Selection:
    """What `ranks` (all by default) did in [begin, end), ns from the run's start.

    Raises:
        UsageError: the stretch is empty, or the run has none of these ranks.
    """
    if timeline.sums is None:
        return select(run, begin, end, ranks)
    chosen = chosen_ranks(run, begin, end, ranks)
    return Selection(
        begin=begin,
        end=end,
        accounting=_accounting(timeline.sums, begin, end, chosen),
        events=_events(timeline, timeline.sums, begin, end, chosen),
    )


def _accounting(sums: Mapping[int, Sums], begin: int, end: int, ranks: Collection[int]) -> pa.Table:
    found = [spent(sums[rank].categories, begin, end) for rank in ranks]
    return pa.table(
        {
            "rank": pa.array(np.repeat(list(ranks), len(CATEGORIES)), pa.int32()),
            "category": pa.array(CATEGORIES * len(found), pa.string()),
            "duration": pa.array(np.concatenate(found), pa.int64()),
        }
    )


def _events(
    timeline: Timeline, sums: Mapping[int, Sums], begin: int, end: int, ranks: Collection[int]
) -> pa.Table:
    """`Selection.events`."""
    wanted = set(ranks)
    rows_of: dict[int, list[int]] = {}
    for lane in timeline.lanes:
        if lane.rank in wanted:
            of_lane = range(lane.first_row, lane.first_row + lane.rows)
            rows_of.setdefault(lane.rank, []).extend(of_lane)
    parts = [np.zeros((PAYLOAD + 1, 0), np.int64)]
    for rank, rows in rows_of.items():
        low, high = timeline.offsets[rows], timeline.offsets[np.array(rows) + 1]
        first, last = touching(
            timeline.start.__getitem__, timeline.duration.__getitem__, low, high, begin, end
        )
        # the rows of a rank lie side by side, and its sums count from the first of them
        blocks, alone = stretches(sums[rank].names, first - low[0], last - low[0])
        parts += [
            blocks,
            _singly(timeline, sums[rank].names, alone, int(low[0])),
            _cut_off(timeline, first[last > first], last[last > first], begin, end),
        ]
    found = added_up(np.concatenate(parts, axis=1))
    names, kinds = np.divmod(found[CODE], len(KINDS))
    payload = found[PAYLOAD]
    return by_time(
        pa.table(
            {
                "kind": pa.array([KINDS[kind] for kind in kinds], pa.string()),
                "name": pa.array([timeline.names[name] for name in names], pa.string()),
                "count": found[COUNT],
                "duration": found[DURATION],
                "longest": found[LONGEST],
                "bytes": pa.array(payload, pa.int64(), mask=payload == NO_BYTES),
            }
        )
    )


def _codes(timeline: Timeline, places: Ints) -> Ints:
    """For kind and name, as build.py has them."""
    return timeline.name[places].astype(np.int64) * len(KINDS) + timeline.kind[places]


def _singly(timeline: Timeline, known: NameSums, places: Ints, base: int) -> Ints:
    """These events of a rank, whose first is at `base`, whole."""
    at = base + places
    payload = known.sizes[known.size_of[places]]
    return of_single(_codes(timeline, at), timeline.duration[at], payload)


def _cut_off(timeline: Timeline, first: Ints, last: Ints, begin: int, end: int) -> Ints:
    """What the first and the last event of each row's stretch (`last` is one further) are to lose,
    since they reach out of [begin, end). Between them nothing does: a row has no overlaps.
    """
    ahead = np.maximum(begin - timeline.start[first], 0)
    at = last - 1
    beyond = np.maximum(timeline.start[at] + timeline.duration[at] - end, 0)
    sums = of_single(
        _codes(timeline, np.concatenate([first, at])),
        -np.concatenate([ahead, beyond]),
        np.full(2 * len(first), NO_BYTES),
    )
    sums[COUNT] = 0
    return sums
