"""What lies in a stretch of time that somebody marked: where each rank's time went, and in what.

This goes through all events of the ranks. dashboard/timeline/selection.py looks the same up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.results import Result
from dashboard.analysis.time_spent.accounting import time_spent
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.runs import Recording

_COLUMNS: Final = ("kind", "name", "start", "duration", "bytes")


@dataclass(kw_only=True, frozen=True)
class Selection(Result):
    """A stretch of time over some ranks.

    begin, end: ns from the run's start.
    accounting: rank, category, duration (ns): by the categories of `Accounting`; of each rank they
        add up to `end - begin`.
    events: kind, name, count, duration (ns, the part within the stretch), longest (ns, whole) and
        bytes, of the events that overlap the stretch, by duration; steps are not among them.
    """

    begin: int
    end: int
    accounting: pa.Table
    events: pa.Table


def select(run: Recording, begin: int, end: int, ranks: Collection[int] | None = None) -> Selection:
    """What `ranks` (all by default) did in [begin, end), ns from the run's start.

    Raises:
        UsageError: the stretch is empty, or the run has none of these ranks.
    """
    chosen = chosen_ranks(run, begin, end, ranks)
    parts = [_overlapping(run, rank, begin, end) for rank in chosen]
    return Selection(
        begin=begin,
        end=end,
        accounting=time_spent(run, begin, end, chosen),
        events=_by_name(pa.concat_tables(parts).unify_dictionaries()),
    )


def chosen_ranks(
    run: Recording, begin: int, end: int, ranks: Collection[int] | None
) -> tuple[int, ...]:
    """The ranks that are selected.

    Raises:
        UsageError: nothing is.
    """
    chosen = tuple(rank for rank in run.ranks if ranks is None or rank in ranks)
    if end <= begin or not chosen:
        raise UsageError("nothing is selected: mark some time on some rank")
    return chosen


def by_time(events: pa.Table) -> pa.Table:
    """`Selection.events`, what takes most time first."""
    order = [("duration", "descending"), ("kind", "ascending"), ("name", "ascending")]
    return events.sort_by(order)


def _overlapping(run: Recording, rank: int, begin: int, end: int) -> pa.Table:
    """The events of a rank, and as `inside` how much of each lies in [begin, end)."""
    events = run.events(ranks=[rank], columns=_COLUMNS)
    start, length = events["start"].to_numpy(), events["duration"].to_numpy()
    touches = (start < end) & ((start + length > begin) | (start >= begin))
    first, last = np.maximum(start, begin), np.minimum(start + length, end)
    inside = pa.array(np.maximum(last - first, 0), pa.int64())
    return events.append_column("inside", inside).filter(pa.array(touches))


def _by_name(events: pa.Table) -> pa.Table:
    kind = events["kind"].cast(pa.string())
    spans = events.set_column(events.column_names.index("kind"), "kind", kind)
    spans = spans.set_column(
        spans.column_names.index("name"), "name", spans["name"].cast(pa.string())
    ).filter(pc.not_equal(kind, "step"))
    grouped = spans.group_by(["kind", "name"]).aggregate(
        [("inside", "count"), ("inside", "sum"), ("duration", "max"), ("bytes", "sum")]
    )
    names = {
        "kind": "kind",
        "name": "name",
        "inside_count": "count",
        "inside_sum": "duration",
        "duration_max": "longest",
        "bytes_sum": "bytes",
    }
    return by_time(grouped.select(list(names)).rename_columns(list(names.values())))
