"""A part of a run, one rank in some steps, that gives the answers of the whole for these.

An analysis of a step looks at what the rank did in that time, and follows an operation from its
call to its wait and its transfer, which may lie elsewhere. So a part holds the events that reach
into the time of its steps, and all that share an operation with them. Besides, one event of work
on a device, if the rank has any, since that decides whose work counts; of an imported run also one
kernel of each name, for there kernels are work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.columns import numbers, once
from dashboard.runs.packed_tables import PackedTables
from dashboard.runs.recording import Recording
from dashboard.runs.words import have, where
from tracer.arrays import bool_array, number_array, numpy_numbers
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS, EVENT_SCHEMA

if TYPE_CHECKING:
    Flags = npt.NDArray[np.bool_]

_TIMES: Final = ("start", "duration", "step")
_TOLD_BY: Final = ("kind", "lane", "correlation")
_FEW: Final = 4
"""A part is read in place of the whole where it has at most so-manieth of the steps."""
COLUMNS: Final = tuple(name for name in EVENT_SCHEMA.names if name not in ("count", "flops"))
"""What the analyses of a part look at."""


def part_of(run: Recording, rank: int, steps: Sequence[int]) -> Recording:
    """The part of one rank in these of its complete steps.

    Raises:
        DamagedTrace: the rank's file is damaged, or has changed since the run was opened.
    """
    whole = len(steps) == len(run.steps)
    return _of(run, rank, _all(run, rank) if whole else _rows(run, rank, steps), steps)


def alone(run: Recording, rank: int) -> Recording:
    """One rank in all steps, for who goes through all ranks: its events are in memory as long as
    this is.
    """
    return _of(run, rank, once(run.tables, rank), run.steps)


def _of(run: Recording, rank: int, table: pa.Table, steps: Sequence[int]) -> Recording:
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


def in_steps(run: Recording, rank: int, steps: Collection[int]) -> Recording:
    """The run, or that part of it if reading the part takes less: where steps can be fetched by
    themselves, and these are few.
    """
    few = _FEW * len(steps) <= len(run.steps)
    return (
        part_of(run, rank, sorted(steps)) if few and isinstance(run.tables, PackedTables) else run
    )


def _all(run: Recording, rank: int) -> pa.Table:
    return run.events(ranks=[rank], columns=COLUMNS)


def _rows(run: Recording, rank: int, steps: Collection[int]) -> pa.Table:
    is_imported = run.meta.source is not None
    if isinstance(run.tables, PackedTables):
        return _fetched(run.tables, rank, steps, is_imported=is_imported)
    table = _all(run, rank)
    span = _span(table, steps)
    reaching = _reaching_into(table, span)
    return table.filter(bool_array(_chosen(table, reaching, span, is_imported=is_imported)))


def _fetched(
    tables: PackedTables, rank: int, steps: Collection[int], *, is_imported: bool
) -> pa.Table:
    """The same of a packed rank: times are fetched where they may lie in the steps, and of all the
    rest what tells which operation an event is of, which takes a fiftieth of the bytes.
    """
    packed = tables.rank(rank)
    span = _span(tables.groups(rank, _TIMES, packed.groups_with(steps)), steps)
    near = () if span is None else tables.groups_within(rank, *span)
    ends = np.cumsum(packed.lengths)
    reaching = np.zeros(packed.rows, np.bool_)
    for group in near:
        inside = _reaching_into(tables.groups(rank, _TIMES, [group]), span)
        reaching[ends[group] - packed.lengths[group] : ends[group]] = inside
    told_by = (*_TOLD_BY, "name") if is_imported else _TOLD_BY
    every = tables.groups(rank, told_by, range(len(ends)))
    chosen = _chosen(every, reaching, span, is_imported=is_imported)
    parts = [chosen[end - length : end] for end, length in zip(ends, packed.lengths, strict=True)]
    groups = [group for group, part in enumerate(parts) if part.any()]
    rows = np.concatenate([np.zeros(0, np.bool_), *(parts[group] for group in groups)])
    return tables.groups(rank, COLUMNS, groups).filter(bool_array(rows))


def _span(events: pa.Table, steps: Collection[int]) -> tuple[int, int] | None:
    """From the first start to the last end of the events of these steps; None if there are none."""
    mine = events.filter(pc.is_in(events["step"], number_array(np.array(sorted(steps), np.int32))))
    if mine.num_rows == 0:
        return None
    ends = pc.add(mine["start"], mine["duration"])
    return pc.min(mine["start"]).as_py(), pc.max(ends).as_py()


def _reaching_into(events: pa.Table, span: tuple[int, int] | None) -> Flags:
    if span is None:
        return np.zeros(events.num_rows, np.bool_)
    start = numbers(events["start"])
    end = start + numbers(events["duration"])
    found: Flags = (start <= span[1]) & (end >= span[0])
    return found


def _chosen(
    events: pa.Table, reaching: Flags, span: tuple[int, int] | None, *, is_imported: bool
) -> Flags:
    """Of all events of a rank, those that reach into the span and what belongs to them."""
    chosen = reaching.copy()
    if span is None:
        return chosen
    issued = _flags(have(events["kind"], (*COMMUNICATION_KINDS, "wait")))
    correlation = events["correlation"]
    shared = pc.unique(correlation.filter(bool_array(chosen & issued))).drop_null()
    chosen |= issued & _flags(pc.is_in(correlation, shared))
    on_device = _flags(where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:")))
    works = on_device & _flags(have(events["kind"], (*COMPUTE_KINDS, "optimizer")))
    chosen[np.flatnonzero(works)[:1]] = True
    if is_imported:
        kernels = np.flatnonzero(on_device & _flags(have(events["kind"], ("kernel",))))
        names = events.select(["name"]).unify_dictionaries()["name"].combine_chunks()
        named = numpy_numbers(names.indices, null=-1)[kernels]
        chosen[kernels[np.unique(named, return_index=True)[1]]] = True
    return chosen


def _flags(column: pa.ChunkedArray) -> Flags:
    found: Flags = numbers(column)
    return found
