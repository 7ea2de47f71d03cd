"""Time accounting: every nanosecond of a step window of a rank in exactly one category.

Categories take time in this order: compute, optimizer, exposed communication by mesh dimension,
data, host-bound, idle. What is left for each is what the ones before did not take, so they
partition the window: the sum is the window, to the nanosecond.

Where a rank has work on device lanes, compute and optimizer are what the device did, a stream that
waits for communication does not compute, and the host's launching of it is `host`: it counts
only where the device had nothing to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dashboard.analysis.intervals import (
    EMPTY,
    Intervals,
    clip,
    intersect,
    intervals,
    measure,
    subtract,
    union,
    within,
)
from dashboard.analysis.operations import category_of
from dashboard.analysis.results import Result
from dashboard.analysis.steps import step_windows
from dashboard.runs.words import have, where
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

COMMUNICATION: Final = ("comm:tp", "comm:pp", "comm:dp", "comm:other")
CATEGORIES: Final = ("compute", "optimizer", *COMMUNICATION, "data", "host", "idle")

_ISSUED: Final = (*COMMUNICATION_KINDS, "wait")

_TABLE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("category", pa.string()),
        ("duration", pa.int64()),
    ]
)
_OVERLAP: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("dim", pa.string()),
        ("total_ns", pa.int64()),
        ("exposed_ns", pa.int64()),
    ]
)

_SPENT: Final = pa.schema([field for field in _TABLE if field.name != "step"])
_COURSE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("category", pa.string()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class Accounting(Result):
    """Where the time of each rank and step went.

    table: rank, step, category, duration (ns); all of `CATEGORIES` for every rank and step.
    overlap: rank, step, dim, total_ns of communication and exposed_ns of it that no compute hid.
    windows: rank, step, start, duration (ns) of the step windows.
    """

    table: pa.Table
    overlap: pa.Table
    windows: pa.Table

    def share(self, category: str) -> float:
        """The category's part of all windows together; 0 if there are none."""
        whole = pc.sum(self.windows["duration"]).as_py() or 0
        mine = self.table.filter(pc.equal(self.table["category"], category))
        return (pc.sum(mine["duration"]).as_py() or 0) / whole if whole else 0.0


@dataclass(slots=True)
class _Lanes:
    """What one rank did over the whole run, as sets of time."""

    compute: Intervals
    optimizer: Intervals
    communication: dict[str, Intervals]
    data: Intervals
    host: Intervals


def account(run: Recording, steps: Collection[int] | None = None) -> Accounting:
    """Account for every step that is complete on all ranks (or those of `steps`)."""
    windows = step_windows(run, steps)
    parts, overlaps = [_TABLE.empty_table()], [_OVERLAP.empty_table()]
    for rank in run.ranks:
        mine = windows.filter(pc.equal(windows["rank"], rank))
        if mine.num_rows:
            lanes = _lanes(run, rank)
            parts.append(_shares(lanes, mine))
            overlaps.append(_overlap(lanes, mine))
    return Accounting(
        table=pa.concat_tables(parts).combine_chunks(),
        overlap=pa.concat_tables(overlaps).combine_chunks(),
        windows=windows,
    )


def course(run: Recording, step: int, ranks: Collection[int]) -> pa.Table:
    """When each of these ranks spent its time in `step` on what: rank, category, start and duration
    (ns, start from the first of their windows); all of a window, less what is idle.

    On rank 0, compute 0-10 and 15-20 in a window 0-30 → two rows; 10-15 and 20-30 are idle.
    """
    found = step_windows(run, [step])
    windows = found.filter(pc.is_in(found["rank"], pa.array(ranks, pa.int32())))
    first = pc.min(windows["start"]).as_py() or 0
    rows = []
    for window in windows.to_pylist():
        begin, end = window["start"], window["start"] + window["duration"]
        for category, taken in _partition(_lanes(run, window["rank"]), begin, end):
            if category != CATEGORIES[-1]:
                key = {"rank": window["rank"], "category": category}
                rows += [key | {"start": a - first, "duration": b - a} for a, b in taken.tolist()]
    return pa.Table.from_pylist(rows, schema=_COURSE)


def time_spent(run: Recording, begin: int, end: int, ranks: Collection[int]) -> pa.Table:
    """rank, category and duration (ns) of any stretch of time, not only of steps: for each of
    `ranks` all of `CATEGORIES`, which add up to `end - begin`.
    """
    rows = [
        {"rank": rank, "category": category, "duration": measure(taken)}
        for rank in ranks
        for category, taken in _partition(_lanes(run, rank), begin, end)
    ]
    return pa.Table.from_pylist(rows, schema=_SPENT)


def _lanes(run: Recording, rank: int) -> _Lanes:
    """Work on the device where there is any, and then the host's own is `host`; else the host's."""
    events = run.events(
        ranks=[rank], columns=("start", "duration", "kind", "lane", "group", "correlation")
    )
    on_device = where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:"))
    device, host = events.filter(on_device), events.filter(pc.invert(on_device))
    works_on_device = _of(device, *COMPUTE_KINDS, "optimizer").num_rows > 0
    if works_on_device:
        return _Lanes(
            compute=_compute(device, _of(device, *COMPUTE_KINDS)),
            optimizer=_compute(device, _of(device, "optimizer")),
            communication=_by_category(
                pa.concat_tables([_of(device, *_ISSUED), _only_on_host(host, device)])
            ),
            data=_spans(_of(events, "data")),
            host=_spans(_of(host, *COMPUTE_KINDS, "optimizer", "user", "module")),
        )
    return _Lanes(
        compute=subtract(_spans(_of(events, *COMPUTE_KINDS)), _spans(_of(host, *_ISSUED))),
        optimizer=subtract(_spans(_of(events, "optimizer")), _spans(_of(host, *_ISSUED))),
        communication=_by_category(_of(events, *_ISSUED)),
        data=_spans(_of(events, "data")),
        host=EMPTY,
    )


def _of(events: pa.Table, *kinds: str) -> pa.Table:
    return events.filter(have(events["kind"], kinds))


def _compute(device: pa.Table, work: pa.Table) -> Intervals:
    """Work without the time in which its stream was held up by communication."""
    return subtract(_spans(work), _spans(_of(device, "wait")))


def _only_on_host(host: pa.Table, device: pa.Table) -> pa.Table:
    """Operations that no device lane shows: the host carried them out (gloo, barriers)."""
    issued = _of(host, *_ISSUED)
    shown = pc.unique(_of(device, *_ISSUED)["correlation"]).drop_null()
    return issued.filter(pc.invert(pc.is_in(issued["correlation"], shown)))


def _by_category(issued: pa.Table) -> dict[str, Intervals]:
    """The time of communication by category: calls, waits and transfers."""
    groups = pc.fill_null(issued["group"].cast(pa.string()), "")
    names = pc.unique(groups)
    categories = pa.array(
        [category_of(g.partition(":")[0]) for g in names.to_pylist()], pa.string()
    )
    of_row = categories.take(pc.index_in(groups, names))
    return {name: _spans(issued.filter(pc.equal(of_row, name))) for name in COMMUNICATION}


def _spans(table: pa.Table) -> Intervals:
    return intervals(table["start"].to_numpy(), table["duration"].to_numpy())


def _partition(lanes: _Lanes, begin: int, end: int) -> Iterator[tuple[str, Intervals]]:
    claims = {
        "compute": lanes.compute,
        "optimizer": lanes.optimizer,
        **lanes.communication,
        "data": lanes.data,
        "host": lanes.host,
    }
    left = np.array([[begin, end]], np.int64) if end > begin else EMPTY
    for category in CATEGORIES[:-1]:
        taken = intersect(left, clip(claims[category], begin, end))
        left = subtract(left, taken)
        yield category, taken
    yield "idle", left


def _shares(lanes: _Lanes, windows: pa.Table) -> pa.Table:
    """`_TABLE` of one rank. All of its time is divided once, and then measured window by window."""
    begin, end = _bounds(windows)
    taken = _partition(lanes, int(begin.min()), int(end.max()))
    spent = np.stack([within(part, begin, end) for _, part in taken], axis=1)
    return _by_window(windows, CATEGORIES, {"category": CATEGORIES, "duration": spent}, _TABLE)


def _overlap(lanes: _Lanes, windows: pa.Table) -> pa.Table:
    """`_OVERLAP` of one rank: a row for each dimension that communicates in the window."""
    begin, end = _bounds(windows)
    hidden = union(lanes.compute, lanes.optimizer)
    total, exposed = [], []
    for spans in lanes.communication.values():
        total.append(within(spans, begin, end))
        exposed.append(within(subtract(spans, hidden), begin, end))
        hidden = union(hidden, spans)
    dims = [category.removeprefix("comm:") for category in lanes.communication]
    columns = {
        "dim": dims,
        "total_ns": np.stack(total, axis=1),
        "exposed_ns": np.stack(exposed, axis=1),
    }
    rows = _by_window(windows, dims, columns, _OVERLAP)
    return rows.filter(pc.greater(rows["total_ns"], 0))


def _bounds(windows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    begin = windows["start"].to_numpy()
    return begin, begin + windows["duration"].to_numpy()


def _by_window(
    windows: pa.Table, names: Sequence[str], columns: Mapping[str, Any], schema: pa.Schema
) -> pa.Table:
    """A row for each window and name: `columns` have a value per name, or one per window and name
    (shape windows × names).
    """
    count = windows.num_rows
    found = {name: np.repeat(windows[name].to_numpy(), len(names)) for name in ("rank", "step")}
    for name, values in columns.items():
        found[name] = values.ravel() if isinstance(values, np.ndarray) else list(values) * count
    return pa.table(found, schema=schema)
