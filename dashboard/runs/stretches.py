"""A part of a run: one rank in some stretches of steps, of which a long rank has hundreds.

What `part.py` does for one span of time it does for many at once, and reads a long stream some
record batches at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.columns import numbers
from dashboard.runs.contents import Contents
from dashboard.runs.part import (
    COLUMNS,
    OF_TIMES,
    TIMES,
    belongs,
    deciding_rows,
    flags,
    made_of,
    part_of,
    shared_of,
)
from dashboard.runs.recording import Recording
from dashboard.runs.stream_tables import StreamTables
from tracer.arrays import bool_array, number_array, numpy_numbers

if TYPE_CHECKING:
    Flags = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

MANY_EVENTS: Final = 250_000
"""Of a rank that is read in part: fewer are read once for all that is asked of them."""


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
    wanted = {step for steps in stretches for step in steps}
    if contents is None or not isinstance(tables, StreamTables) or wanted.issuperset(run.steps):
        return part_of(run, rank, run.steps)
    rows = _rows_around(run, tables, rank, contents, stretches)
    return made_of(run, rank, rows, [step for step in run.steps if step in wanted])


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
    read = partial(_some_at_a_time, tables, rank, contents)
    clock = run.clock.maps[rank]
    lie = clock.to_common(contents.first) - run.begin, clock.to_common(contents.last) - run.begin

    def near(spans: Ints) -> set[int]:
        reaching = _reach_into_one(*lie, spans) & (contents.first <= contents.last)
        return set(np.flatnonzero(reaching).tolist())

    def shared(spans: Ints) -> pa.Array:
        parts = [shared_of(t, _into_one(t, spans)) for t in read(OF_TIMES, near(spans))]
        return pc.unique(pa.chunked_array(parts, pa.int64()))

    spans = _spans(read, contents, stretches)
    operations = shared(spans)
    found = near(spans).union(contents.with_correlations(numpy_numbers(operations, null=0)))
    extents = [_extents(t.filter(belongs(t, operations))) for t in read(OF_TIMES, found)]
    wider = _merged(np.concatenate([spans, *extents]))
    if not np.array_equal(wider, spans):
        spans, operations = wider, shared(wider)
    found = near(spans).union(
        contents.deciding, contents.with_correlations(numpy_numbers(operations, null=0))
    )
    parts = []
    for table in read(COLUMNS, found):
        chosen = _into_one(table, spans) | flags(belongs(table, operations))
        deciding = deciding_rows(table, is_imported=run.meta.source is not None)
        chosen[[*deciding.values()]] = True  # of these batches: more than of the rank
        parts.append(table.filter(bool_array(chosen)))
    if not parts:
        return tables.batches(rank, COLUMNS, ())
    rows = pa.concat_tables(parts).unify_dictionaries()
    return rows.take(number_array(np.argsort(numbers(rows["start"]), kind="stable")))


def _some_at_a_time(
    tables: StreamTables,
    rank: int,
    contents: Contents,
    columns: Collection[str],
    batches: Collection[int],
) -> Iterator[pa.Table]:
    for some in contents.some_at_a_time(batches):
        yield tables.batches(rank, columns, some)


def _spans(
    read: Callable[[Collection[str], Collection[int]], Iterator[pa.Table]],
    contents: Contents,
    stretches: Sequence[Sequence[int]],
) -> Ints:
    """Of each stretch, from the first start to the last end of its events; see `_merged`."""
    wanted = np.array(sorted({step for steps in stretches for step in steps}), np.int64)
    limits = np.iinfo(np.int64)
    first, last = np.full(len(wanted), limits.max), np.full(len(wanted), limits.min)
    for table in read(TIMES, contents.with_steps(wanted.tolist())):
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
