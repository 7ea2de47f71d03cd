"""A part of a run, one rank in some steps, that gives the answers of the whole for these.

An analysis of a step looks at what the rank did in that time, and follows an operation from its
call to its wait and its transfer, which may lie elsewhere. So a part holds the events that reach
into the time of its steps, and all that share an operation with them. Besides, one event of work
on a device, if the rank has any, since that decides whose work counts; of an imported run also one
kernel of each name, for there kernels are work.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.columns import numbers, once
from dashboard.runs.contents import Contents
from dashboard.runs.packed_tables import PackedTables
from dashboard.runs.recording import Recording
from dashboard.runs.stream_tables import StreamTables
from dashboard.runs.unpacked import Unpacked
from dashboard.runs.words import have, where
from tracer.arrays import bool_array, number_array, numpy_numbers
from tracer.schema import EVENT_SCHEMA, OPERATION_KINDS, WORK_KINDS

if TYPE_CHECKING:
    Flags = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

_Span: TypeAlias = tuple[int, int]
"""Begin and end, ns on the common clock."""

TIMES: Final = ("start", "duration", "step")
OF_OPERATIONS: Final = ("kind", "correlation")
OF_TIMES: Final = ("start", "duration", *OF_OPERATIONS)
_TOLD_BY: Final = ("kind", "lane", "correlation")
_FEW: Final = 4
"""A part is read in place of the whole where it has at most so-manieth of the steps."""
_GROUPS: Final = 64
"""Of a packed rank, looked through together: a million events."""
COLUMNS: Final = tuple(name for name in EVENT_SCHEMA.names if name not in ("count", "flops"))
"""What the analyses of a part look at."""


def part_of(run: Recording, rank: int, steps: Sequence[int]) -> Recording:
    """The part of one rank in these of its complete steps.

    Raises:
        DamagedTrace: the rank's file is damaged, or has changed since the run was opened.
    """
    whole = len(steps) == len(run.steps)
    if whole:
        return made_of(run, rank, _all(run, rank), steps)
    return made_of(run, rank, _rows(run, rank, steps), steps)


def alone(run: Recording, rank: int) -> Recording:
    """One rank in all steps, for who goes through all ranks: its events are in memory as long as
    this is.
    """
    return made_of(run, rank, once(run.tables, rank), run.steps)


def made_of(run: Recording, rank: int, table: pa.Table, steps: Sequence[int]) -> Recording:
    """The run with `table` for its only rank, in these steps."""
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
    of_steps, around = _ways_to_read(run, rank, is_imported=is_imported)
    span = _span(of_steps(steps), steps)
    table = around(span)
    del of_steps, around  # and with them what was unpacked on the way
    reaching = _reaching_into(table, span)
    return table.filter(bool_array(_chosen(table, reaching, span, is_imported=is_imported)))


def _ways_to_read(
    run: Recording, rank: int, *, is_imported: bool
) -> tuple[Callable[[Collection[int]], pa.Table], Callable[[_Span | None], pa.Table]]:
    """How to have at least the times of the events of some steps, and at least what is chosen where
    these have that span: of a file that is read in groups of rows, those that are needed.
    """
    tables = run.tables
    contents = tables.contents(rank) if isinstance(tables, StreamTables) else None
    if isinstance(tables, StreamTables) and contents is not None:
        unpacked = tables.unpacked(rank, COLUMNS, contents)
        return (
            lambda steps: unpacked.columns(TIMES, contents.with_steps(steps)),
            lambda span: (
                unpacked.last(())
                if span is None
                else _batches_around(run, tables, rank, contents, unpacked, span)
            ),
        )
    if isinstance(tables, PackedTables):
        read: Callable[[Collection[str], Sequence[int]], pa.Table] = partial(tables.groups, rank)
        with_steps = tables.rank(rank).groups_with
        where_lies = partial(_groups_around, tables, rank, is_imported=is_imported)
    else:
        table = _all(run, rank)
        return lambda steps: table, lambda span: table
    return (
        lambda steps: read(TIMES, with_steps(steps)),
        lambda span: read(COLUMNS, [] if span is None else sorted(where_lies(span))),
    )


def _batches_around(
    run: Recording,
    tables: StreamTables,
    rank: int,
    contents: Contents,
    unpacked: Unpacked,
    span: _Span,
) -> pa.Table:
    """The record batches in which all lies that is chosen: most have been read for their steps."""
    near = contents.within(run.clock.maps[rank], run.begin + span[0], run.begin + span[1])
    events = unpacked.columns(OF_TIMES, near)
    shared = shared_of(events, _reaching_into(events, span))
    further = set(contents.with_correlations(numpy_numbers(shared, null=0))).difference(near)
    belonging = [
        batches
        for batches in contents.some_at_a_time(further)
        if pc.any(belongs(tables.batches(rank, OF_OPERATIONS, batches), shared)).as_py()
    ]
    del events  # or it lies beside what is sorted anew
    return unpacked.last({*near, *itertools.chain(*belonging), *contents.deciding})


def _groups_around(tables: PackedTables, rank: int, span: _Span, *, is_imported: bool) -> set[int]:
    """The same of a packed rank: times are fetched where they may lie in the span, and of all the
    rest what tells which operation an event is of, which takes a fiftieth of the bytes.
    """
    packed = tables.rank(rank)
    ends = np.cumsum(packed.lengths)
    near = np.array(tables.groups_within(rank, *span), np.int64)
    events = tables.groups(rank, OF_TIMES, near.tolist())
    reaching = _reaching_into(events, span)
    of_near = np.repeat(near, np.array(packed.lengths, np.int64)[near])
    found = set(of_near[reaching].tolist())
    shared = shared_of(events, reaching)
    known: set[str | None] = set()
    told_by = (*_TOLD_BY, "name") if is_imported else _TOLD_BY
    for first in range(0, len(ends), _GROUPS):
        groups = range(first, min(first + _GROUPS, len(ends)))
        events = tables.groups(rank, told_by, groups)
        deciding = deciding_rows(events, is_imported=is_imported)
        rows = [row for what, row in deciding.items() if what not in known]
        known |= deciding.keys()
        rows += np.flatnonzero(flags(belongs(events, shared))).tolist()
        before = ends[first] - packed.lengths[first]
        found.update(np.searchsorted(ends, before + np.array(rows, np.int64), "right").tolist())
    return found


def _span(events: pa.Table, steps: Collection[int]) -> _Span | None:
    """From the first start to the last end of the events of these steps; None if there are none."""
    events = events.select(TIMES)
    mine = events.filter(pc.is_in(events["step"], number_array(np.array(sorted(steps), np.int32))))
    if mine.num_rows == 0:
        return None
    ends = pc.add(mine["start"], mine["duration"])
    return pc.min(mine["start"]).as_py(), pc.max(ends).as_py()


def _reaching_into(events: pa.Table, span: _Span | None) -> Flags:
    if span is None:
        return np.zeros(events.num_rows, np.bool_)
    start = numbers(events["start"])
    end = start + numbers(events["duration"])
    found: Flags = (start <= span[1]) & (end >= span[0])
    return found


def _chosen(events: pa.Table, reaching: Flags, span: _Span | None, *, is_imported: bool) -> Flags:
    """Of all events of a rank, those that reach into the span and what belongs to them."""
    chosen = reaching.copy()
    if span is None:
        return chosen
    chosen |= flags(belongs(events, shared_of(events, reaching)))
    chosen[[*deciding_rows(events, is_imported=is_imported).values()]] = True
    return chosen


def deciding_rows(events: pa.Table, *, is_imported: bool) -> dict[str | None, int]:
    """The rows of the first work on a device (None) and, of an imported run, of the first kernel of
    each name there.
    """
    on_device = flags(where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:")))
    works = np.flatnonzero(on_device & flags(have(events["kind"], WORK_KINDS)))
    found: dict[str | None, int] = {None: int(works[0])} if len(works) else {}
    if is_imported:
        kernels = np.flatnonzero(on_device & flags(have(events["kind"], ("kernel",))))
        names = events.select(["name"]).unify_dictionaries()["name"].combine_chunks()
        named = numpy_numbers(names.indices, null=-1)[kernels]
        first = kernels[np.unique(named, return_index=True)[1]]
        found |= zip(names.take(number_array(first)).to_pylist(), first.tolist(), strict=True)
    return found


def shared_of(events: pa.Table, reaching: Flags) -> pa.Array:
    """The correlations of the operations that events which reach into the span are of."""
    mine = events.select(OF_OPERATIONS).filter(bool_array(reaching))
    return pc.unique(mine["correlation"].filter(have(mine["kind"], OPERATION_KINDS))).drop_null()


def belongs(events: pa.Table, shared: pa.Array) -> pa.ChunkedArray:
    """Which events are a part of one of these operations."""
    return pc.and_(have(events["kind"], OPERATION_KINDS), pc.is_in(events["correlation"], shared))


def flags(column: pa.ChunkedArray) -> Flags:
    """A column of booleans."""
    found: Flags = numbers(column)
    return found
