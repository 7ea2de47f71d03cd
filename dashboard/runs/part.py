"""A part of a run, one rank in some steps, that gives the answers of the whole for these.

An analysis of a step looks at what the rank did in that time, and follows an operation from its
call to its wait and its transfer, which may lie elsewhere. So a part holds the events that reach
into the time of its steps, and all that share an operation with them. Besides, one event of work
on a device, if the rank has any, since that decides whose work counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.packed_tables import PackedTables
from dashboard.runs.recording import Recording
from dashboard.runs.words import have, where
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS, EVENT_SCHEMA

if TYPE_CHECKING:
    Flags = npt.NDArray[np.bool_]

_LOOKED_AT: Final = ("start", "duration", "step", "kind", "lane", "correlation")
COLUMNS: Final = tuple(name for name in EVENT_SCHEMA.names if name not in ("count", "flops"))
"""What the analyses of a part look at."""


def part_of(run: Recording, rank: int, steps: Sequence[int]) -> Recording:
    """The part of one rank in these of its complete steps.

    Raises:
        DamagedTrace: the rank's file is damaged, or has changed since the run was opened.
    """
    whole = len(steps) == len(run.steps)
    table = _all(run, rank) if whole else _rows(run, rank, steps)
    part = Recording.recalled(
        path=run.path,
        meta=run.meta,
        facts=run.facts,
        problems=(),
        clock=run.clock,
        begin=run.begin,
        tables={rank: table},
        event_count=table.num_rows,
        steps=tuple(steps),
        recorded_until=run.recorded_until,
    )
    part.source = run.source
    return part


def _all(run: Recording, rank: int) -> pa.Table:
    return run.events(ranks=[rank], columns=COLUMNS)


def _rows(run: Recording, rank: int, steps: Collection[int]) -> pa.Table:
    looked_at = run.events(ranks=[rank], columns=_LOOKED_AT)
    chosen = _chosen(looked_at, steps)
    if not isinstance(run.tables, PackedTables):
        return _all(run, rank).filter(pa.array(chosen))
    lengths = run.tables.rank(rank).lengths
    ends = np.cumsum(lengths)
    groups = [
        group
        for group, (end, length) in enumerate(zip(ends, lengths, strict=True))
        if chosen[end - length : end].any()
    ]
    inside = np.concatenate(
        [np.zeros(0, np.bool_), *(chosen[ends[g] - lengths[g] : ends[g]] for g in groups)]
    )
    return run.tables.groups(rank, COLUMNS, groups).filter(pa.array(inside))


def _chosen(events: pa.Table, steps: Collection[int]) -> Flags:
    start = events["start"].to_numpy()
    end = start + events["duration"].to_numpy()
    wanted = pc.is_in(events["step"], pa.array(sorted(steps), pa.int32()))
    mine = _flags(wanted)
    if not mine.any():
        return mine
    chosen: Flags = mine | ((start <= end[mine].max()) & (end >= start[mine].min()))
    issued = _flags(have(events["kind"], (*COMMUNICATION_KINDS, "wait")))
    correlation = events["correlation"]
    shared = pc.unique(correlation.filter(pa.array(chosen & issued))).drop_null()
    chosen |= issued & _flags(pc.is_in(correlation, shared))
    on_device = _flags(where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:")))
    works = on_device & _flags(have(events["kind"], (*COMPUTE_KINDS, "optimizer")))
    chosen[np.flatnonzero(works)[:1]] = True
    return chosen


def _flags(column: pa.ChunkedArray) -> Flags:
    found: Flags = pc.fill_null(column, False).to_numpy().astype(np.bool_)
    return found
