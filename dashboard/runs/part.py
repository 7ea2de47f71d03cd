"""A part of a run, one rank in some steps, that gives the answers of the whole for these.

An analysis of a step looks at what the rank did in that time, and follows an operation from its
call to its wait and its transfer, which may lie elsewhere. So a part holds the events that reach
into the time of its steps, and all that share an operation with them. Besides, one event of work
on a device, if the rank has any, since that decides whose work counts; of an imported run also one
kernel of each name, for there kernels are work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.columns import numbers, once
from dashboard.runs.contents import ISSUED, WORK, Contents
from dashboard.runs.packed_tables import PackedTables
from dashboard.runs.recording import Recording
from dashboard.runs.stream_tables import StreamTables
from dashboard.runs.words import have, where
from tracer.arrays import bool_array, number_array, numpy_numbers
from tracer.schema import EVENT_SCHEMA

if TYPE_CHECKING:
    Flags = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

_Span: TypeAlias = tuple[int, int]
"""Begin and end, ns on the common clock."""

_TIMES: Final = ("start", "duration", "step")
_OF_OPERATIONS: Final = ("kind", "correlation")
_OF_TIMES: Final = ("start", "duration", *_OF_OPERATIONS)
_TOLD_BY: Final = ("kind", "lane", "correlation")
_FEW: Final = 4
"""A part is read in place of the whole where it has at most so-manieth of the steps."""
MANY_EVENTS: Final = 250_000
"""Of a rank that is read in part: fewer are read once for all that is asked of them."""
_BATCHES: Final = 16
"""Record batches, unpacked together where some rows of many are chosen."""
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
        return _of(run, rank, _all(run, rank), steps)
    return _of(run, rank, _rows(run, rank, steps), steps)


def around_stretches(run: Recording, rank: int, stretches: Sequence[Sequence[int]]) -> Recording:
    """No less than the parts of one rank in some stretches of steps, and what went on while an
    operation of these did, which may have begun before and be waited for later; of a rank with few
    events all of them, in all steps.

    Raises:
        DamagedTrace: the rank's file is damaged, or has changed since the run was opened.
    """
    tables = run.tables
    is_long = run.event_count > MANY_EVENTS * len(run.ranks)
    contents = tables.contents(rank) if is_long and isinstance(tables, StreamTables) else None
    wanted = sorted({step for steps in stretches for step in steps})
    if contents is None or not isinstance(tables, StreamTables) or wanted == [*run.steps]:
        return part_of(run, rank, run.steps)
    return _of(run, rank, _rows_around(run, tables, rank, contents, stretches), wanted)


def _rows_around(
    run: Recording,
    tables: StreamTables,
    rank: int,
    contents: Contents,
    stretches: Sequence[Sequence[int]],
) -> pa.Table:
    """All stretches at once, some record batches at a time: of hundreds of stretches each alone
    would be as many looks at the rank.
    """
    read = partial(_some_at_a_time, tables, rank)
    clock = run.clock.maps[rank]
    lie = clock.to_common(contents.first) - run.begin, clock.to_common(contents.last) - run.begin

    def near(spans: Ints) -> set[int]:
        reaching = _reach_into_one(*lie, spans) & (contents.first <= contents.last)
        return set(np.flatnonzero(reaching).tolist())

    def shared(spans: Ints) -> pa.Array:
        parts = [_shared(t, _into_one(t, spans)) for t in read(_OF_TIMES, near(spans))]
        return pc.unique(pa.chunked_array(parts, pa.int64()))

    spans = _spans(read, contents, stretches)
    operations = shared(spans)
    found = near(spans).union(contents.with_correlations(numpy_numbers(operations, null=0)))
    extents = [_extents(t.filter(_belongs(t, operations))) for t in read(_OF_TIMES, found)]
    wider = _merged(np.concatenate([spans, *extents]))
    if not np.array_equal(wider, spans):
        spans, operations = wider, shared(wider)
    found = near(spans).union(
        contents.deciding, contents.with_correlations(numpy_numbers(operations, null=0))
    )
    parts = []
    for table in read(COLUMNS, found):
        chosen = _into_one(table, spans) | _flags(_belongs(table, operations))
        deciding = _deciding(table, is_imported=run.meta.source is not None)
        chosen[[*deciding.values()]] = True  # of these batches: more than of the rank
        parts.append(table.filter(bool_array(chosen)))
    if not parts:
        return tables.batches(rank, COLUMNS, ())
    rows = pa.concat_tables(parts).unify_dictionaries()
    return rows.take(number_array(np.argsort(numbers(rows["start"]), kind="stable")))


def _some_at_a_time(
    tables: StreamTables, rank: int, columns: Collection[str], batches: Collection[int]
) -> Iterator[pa.Table]:
    wanted = sorted(batches)
    for first in range(0, len(wanted), _BATCHES):
        yield tables.batches(rank, columns, wanted[first : first + _BATCHES])


def _spans(
    read: Callable[[Collection[str], Collection[int]], Iterator[pa.Table]],
    contents: Contents,
    stretches: Sequence[Sequence[int]],
) -> Ints:
    """Of each stretch, from the first start to the last end of its events; see `_merged`."""
    wanted = np.array(sorted({step for steps in stretches for step in steps}), np.int64)
    limits = np.iinfo(np.int64)
    first, last = np.full(len(wanted), limits.max), np.full(len(wanted), limits.min)
    for table in read(_TIMES, contents.with_steps(wanted.tolist())):
        step, start = numbers(table["step"], null=-1), numbers(table["start"])
        place = np.minimum(np.searchsorted(wanted, step), len(wanted) - 1)
        mine = wanted[place] == step
        np.minimum.at(first, place[mine], start[mine])
        np.maximum.at(last, place[mine], (start + numbers(table["duration"]))[mine])
    places = [np.searchsorted(wanted, np.array(steps, np.int64)) for steps in stretches]
    spans = np.array([(first[p].min(), last[p].max()) for p in places], np.int64).reshape(-1, 2)
    return _merged(spans[spans[:, 0] <= spans[:, 1]])


def _extents(events: pa.Table) -> Ints:
    """From the first start to the last end of what is here of each operation."""
    start = numbers(events["start"])
    known, of = np.unique(numbers(events["correlation"]), return_inverse=True)
    limits = np.iinfo(np.int64)
    first, last = np.full(len(known), limits.max), np.full(len(known), limits.min)
    np.minimum.at(first, of, start)
    np.maximum.at(last, of, start + numbers(events["duration"]))
    return np.stack([first, last], axis=1)


def _merged(spans: Ints) -> Ints:
    """In order, those that touch as one.

    `[[5, 9], [0, 2], [8, 12]]` → `[[0, 2], [5, 12]]`
    """
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    until = np.maximum.accumulate(spans[:, 1])
    begins = np.flatnonzero(
        np.append(np.ones(min(len(spans), 1), np.bool_), spans[1:, 0] > until[:-1])
    )
    ends = np.append(begins[1:], len(spans))[: len(begins)] - 1
    return np.stack([spans[begins, 0], until[ends]], axis=1)


def _into_one(events: pa.Table, spans: Ints) -> Flags:
    start = numbers(events["start"])
    return _reach_into_one(start, start + numbers(events["duration"]), spans)


def _reach_into_one(start: Ints, end: Ints, spans: Ints) -> Flags:
    """What reaches into one of the spans; see `_merged`."""
    if not len(spans):
        return np.zeros(len(start), np.bool_)
    at = np.searchsorted(spans[:, 0], end, side="right") - 1
    found: Flags = (at >= 0) & (spans[at, 1] >= start)
    return found


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
    of_steps, around = _ways_to_read(run, rank, is_imported=is_imported)
    span = _span(of_steps(steps), steps)
    table = around(span)
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
        read: Callable[[Collection[str], Sequence[int]], pa.Table] = partial(tables.batches, rank)
        with_steps: Callable[[Collection[int]], Sequence[int]] = contents.with_steps
        where_lies: Callable[[_Span], set[int]] = partial(
            _batches_around, run, tables, rank, contents
        )
    elif isinstance(tables, PackedTables):
        read, with_steps = partial(tables.groups, rank), tables.rank(rank).groups_with
        where_lies = partial(_groups_around, tables, rank, is_imported=is_imported)
    else:
        table = _all(run, rank)
        return lambda steps: table, lambda span: table
    return (
        lambda steps: read(_TIMES, with_steps(steps)),
        lambda span: read(COLUMNS, [] if span is None else sorted(where_lies(span))),
    )


def _batches_around(
    run: Recording, tables: StreamTables, rank: int, contents: Contents, span: _Span
) -> set[int]:
    """The record batches in which all lies that is chosen."""
    near = contents.within(run.clock.maps[rank], run.begin + span[0], run.begin + span[1])
    events = tables.batches(rank, _OF_TIMES, near)
    shared = _shared(events, _reaching_into(events, span))
    further = set(contents.with_correlations(numpy_numbers(shared, null=0))).difference(near)
    belonging = {
        batch
        for batch in further
        if pc.any(_belongs(tables.batches(rank, _OF_OPERATIONS, [batch]), shared)).as_py()
    }
    return {*near, *belonging, *contents.deciding}


def _groups_around(tables: PackedTables, rank: int, span: _Span, *, is_imported: bool) -> set[int]:
    """The same of a packed rank: times are fetched where they may lie in the span, and of all the
    rest what tells which operation an event is of, which takes a fiftieth of the bytes.
    """
    packed = tables.rank(rank)
    ends = np.cumsum(packed.lengths)
    near = np.array(tables.groups_within(rank, *span), np.int64)
    events = tables.groups(rank, _OF_TIMES, near.tolist())
    reaching = _reaching_into(events, span)
    of_near = np.repeat(near, np.array(packed.lengths, np.int64)[near])
    found = set(of_near[reaching].tolist())
    shared = _shared(events, reaching)
    known: set[str | None] = set()
    told_by = (*_TOLD_BY, "name") if is_imported else _TOLD_BY
    for first in range(0, len(ends), _GROUPS):
        groups = range(first, min(first + _GROUPS, len(ends)))
        events = tables.groups(rank, told_by, groups)
        deciding = _deciding(events, is_imported=is_imported)
        rows = [row for what, row in deciding.items() if what not in known]
        known |= deciding.keys()
        rows += np.flatnonzero(_flags(_belongs(events, shared))).tolist()
        before = ends[first] - packed.lengths[first]
        found.update(np.searchsorted(ends, before + np.array(rows, np.int64), "right").tolist())
    return found


def _span(events: pa.Table, steps: Collection[int]) -> _Span | None:
    """From the first start to the last end of the events of these steps; None if there are none."""
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
    chosen |= _flags(_belongs(events, _shared(events, reaching)))
    chosen[[*_deciding(events, is_imported=is_imported).values()]] = True
    return chosen


def _deciding(events: pa.Table, *, is_imported: bool) -> dict[str | None, int]:
    """The rows of the first work on a device (None) and, of an imported run, of the first kernel of
    each name there.
    """
    on_device = _flags(where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:")))
    works = np.flatnonzero(on_device & _flags(have(events["kind"], WORK)))
    found: dict[str | None, int] = {None: int(works[0])} if len(works) else {}
    if is_imported:
        kernels = np.flatnonzero(on_device & _flags(have(events["kind"], ("kernel",))))
        names = events.select(["name"]).unify_dictionaries()["name"].combine_chunks()
        named = numpy_numbers(names.indices, null=-1)[kernels]
        first = kernels[np.unique(named, return_index=True)[1]]
        found |= zip(names.take(number_array(first)).to_pylist(), first.tolist(), strict=True)
    return found


def _shared(events: pa.Table, reaching: Flags) -> pa.Array:
    """The correlations of the operations that events which reach into the span are of."""
    mine = events.select(_OF_OPERATIONS).filter(bool_array(reaching))
    return pc.unique(mine["correlation"].filter(have(mine["kind"], ISSUED))).drop_null()


def _belongs(events: pa.Table, shared: pa.Array) -> pa.ChunkedArray:
    """Which events are a part of one of these operations."""
    return pc.and_(have(events["kind"], ISSUED), pc.is_in(events["correlation"], shared))


def _flags(column: pa.ChunkedArray) -> Flags:
    found: Flags = numbers(column)
    return found
