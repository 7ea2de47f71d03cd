"""Which events of a rank claim its time for which category, and who has it where several do.

Categories take time in this order: compute, optimizer, exposed communication by mesh dimension,
data, host-bound, idle. What is left for each is what the ones before did not take, so they
partition any stretch of time.

Where a rank has work on device lanes, compute and optimizer are what the device did, a stream that
waits for communication does not compute, and the host's launching of it is `host`: it counts
only where the device had nothing to do.

A recorded run has spans of forward, backward and optimizer, and kernels only in some steps. An
imported one may lack the spans but has all kernels: those that compute, and do not lie in an
optimizer's span, count as compute; without a device the operators of the host do.

The timeline's index keeps what follows from these rules: a change of them raises its VERSION
(dashboard/timeline/index.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import (
    EMPTY,
    Intervals,
    clip,
    intersect,
    intervals,
    subtract,
    union,
)
from dashboard.analysis.operations import category_of
from dashboard.analysis.time_spent.kernels import COMPUTE, device_kernels, of_purpose, operators
from dashboard.runs.columns import numbers
from dashboard.runs.words import have, where
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

COMMUNICATION: Final = ("comm:tp", "comm:pp", "comm:dp", "comm:other")
CATEGORIES: Final = ("compute", "optimizer", *COMMUNICATION, "data", "host", "idle")
IDLE: Final = CATEGORIES[-1]

_ISSUED: Final = (*COMMUNICATION_KINDS, "wait")
_COLUMNS: Final = ("start", "duration", "kind", "lane", "group", "correlation")


@dataclass(kw_only=True, slots=True, frozen=True)
class Claims:
    """What one rank did over the whole run: by category (all but idle) the events, and the time
    that they ask for.
    """

    events: dict[str, pa.Table]
    spans: dict[str, Intervals]


def claims_of(run: Recording, rank: int, columns: Collection[str] = ()) -> Claims:
    """The claims of a rank; its events have `columns` as well as those that are needed here."""
    is_imported = run.meta.source is not None
    wanted = dict.fromkeys((*_COLUMNS, *columns, *(("name",) if is_imported else ())))
    events = run.events(ranks=[rank], columns=tuple(wanted))
    on_device = where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:"))
    device, host = events.filter(on_device), events.filter(pc.invert(on_device))
    nothing = events.slice(0, 0)
    kernels = _computing(device) if is_imported else nothing
    operated = operators(host) if is_imported else nothing
    if kernels.num_rows or _of(device, *COMPUTE_KINDS, "optimizer").num_rows:
        working, held_up = device, _of(device, "wait")
        issued = pa.concat_tables([_of(device, *_ISSUED), _only_on_host(host, device)])
        kinds = (*COMPUTE_KINDS, "optimizer", *(() if is_imported else ("user", "module")))
        launching = pa.concat_tables([_of(host, *kinds), operated])
    else:
        working, held_up = events, _of(host, *_ISSUED)
        issued, launching, kernels = _of(events, *_ISSUED), nothing, operated
    optimizer = _of(working, "optimizer")
    found = {
        "compute": pa.concat_tables(
            [_of(working, *COMPUTE_KINDS), _begun_outside(kernels, optimizer)]
        ),
        "optimizer": optimizer,
        **_by_category(issued),
        "data": _of(events, "data"),
        "host": launching,
    }
    spans = {category: spans_of(table) for category, table in found.items()}
    for category in ("compute", "optimizer"):
        spans[category] = (
            _by_stream(found[category], held_up)
            if working is device
            else subtract(spans[category], spans_of(held_up))
        )
    return Claims(events=found, spans=spans)


def divide(claims: Claims, begin: int, end: int) -> Iterator[tuple[str, Intervals]]:
    """[begin, end) among all of `CATEGORIES`, in their order; each instant goes to one of them."""
    left = np.array([[begin, end]], np.int64) if end > begin else EMPTY
    for category in CATEGORIES[:-1]:
        taken = intersect(left, clip(claims.spans[category], begin, end))
        left = subtract(left, taken)
        yield category, taken
    yield IDLE, left


def spans_of(table: pa.Table) -> Intervals:
    """The time that any of these events takes."""
    return intervals(numbers(table["start"]), numbers(table["duration"]))


def _of(events: pa.Table, *kinds: str) -> pa.Table:
    return events.filter(have(events["kind"], kinds))


def _computing(device: pa.Table) -> pa.Table:
    """The kernels that compute."""
    return of_purpose(device_kernels(device), COMPUTE)


def _begun_outside(rows: pa.Table, spans: pa.Table) -> pa.Table:
    """The rows that begin in none of the spans."""
    taken = spans_of(spans)
    start = rows["start"].to_numpy()
    at = np.searchsorted(taken[:, 0], start, side="right") - 1
    inside = (at >= 0) & (start < taken[at, 1]) if len(taken) else np.zeros(len(start), np.bool_)
    return rows.filter(pa.array(~inside))


def _by_stream(work: pa.Table, waits: pa.Table) -> Intervals:
    """Work without the time in which its own stream was held up by communication; that another
    stream waits (for what it has prefetched, say) holds up nothing here.
    """
    streams = pc.unique(work["lane"].cast(pa.string())).to_pylist()
    return union(
        *(
            subtract(
                spans_of(work.filter(have(work["lane"], [stream]))),
                spans_of(waits.filter(have(waits["lane"], [stream]))),
            )
            for stream in streams
        )
    )


def _only_on_host(host: pa.Table, device: pa.Table) -> pa.Table:
    """Operations that no device lane shows: the host carried them out (gloo, barriers)."""
    issued = _of(host, *_ISSUED)
    shown = pc.unique(_of(device, *_ISSUED)["correlation"]).drop_null()
    return issued.filter(pc.invert(pc.is_in(issued["correlation"], shown)))


def _by_category(issued: pa.Table) -> dict[str, pa.Table]:
    """Communication by category: calls, waits and transfers."""
    groups = pc.fill_null(issued["group"].cast(pa.string()), "")
    names = pc.unique(groups)
    categories = pa.array(
        [category_of(g.partition(":")[0]) for g in names.to_pylist()], pa.string()
    )
    of_row = categories.take(pc.index_in(groups, names))
    return {name: issued.filter(pc.equal(of_row, name)) for name in COMMUNICATION}
