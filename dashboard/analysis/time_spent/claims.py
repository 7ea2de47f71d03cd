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
(dashboard/timeline/index.py); a test sees to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
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
from dashboard.runs.words import fulfil, have, where
from tracer.arrays import bool_array, number_array
from tracer.schema import COMPUTE_KINDS, OPERATION_KINDS, WORK_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

COMMUNICATION: Final = ("comm:tp", "comm:pp", "comm:dp", "comm:other")
CATEGORIES: Final = ("compute", "optimizer", *COMMUNICATION, "data", "host", "idle")
IDLE: Final = CATEGORIES[-1]

CLAIMED_BY: Final = ("start", "duration", "kind", "lane", "group", "correlation", "name")
"""The columns that are looked at."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Claims:
    """What one rank did over the whole run: by category (all but idle) the events, and the time
    that they ask for.
    """

    events: dict[str, pa.Table]
    spans: dict[str, Intervals]


@dataclass(kw_only=True, slots=True, frozen=True)
class Device:
    """What all events of a rank say of its device: whether it `works` there, and the correlations
    of the operations that are `shown` there, ascending.
    """

    works: bool
    shown: npt.NDArray[np.int64]


def claims_of(run: Recording, rank: int, columns: Collection[str] = ()) -> Claims:
    """The claims of a rank; its events have `columns` as well as those that are needed here."""
    is_imported = run.meta.source is not None
    needed = CLAIMED_BY if is_imported else CLAIMED_BY[:-1]
    events = run.events(ranks=[rank], columns=tuple(dict.fromkeys((*needed, *columns))))
    device = device_in(events, is_imported=is_imported)
    return claims_among(events, device, is_imported=is_imported)


def device_in(events: pa.Table, *, is_imported: bool) -> Device:
    """What the events of a rank say of its device."""
    needed = ("kind", "lane", "correlation", *(("name",) if is_imported else ()))
    device = events.select(needed).filter(_on_device(events))
    return Device(
        works=bool(_of(device, *WORK_KINDS).num_rows)
        or (is_imported and bool(_computing(device).num_rows)),
        shown=np.unique(numbers(_of(device, *OPERATION_KINDS)["correlation"].drop_null())),
    )


def joined(parts: Sequence[Device]) -> Device:
    """What parts of a rank's events say together."""
    return Device(
        works=any(part.works for part in parts),
        shown=np.unique(np.concatenate([np.zeros(0, np.int64), *(part.shown for part in parts)])),
    )


def claims_among(events: pa.Table, of_rank: Device, *, is_imported: bool) -> Claims:
    """The claims of some events of a rank. They are those of the whole rank in any stretch of time
    of which all events that reach into it are here, and each span of an optimizer in which a kernel
    of these began.
    """
    on_device = _on_device(events)
    device, host = events.filter(on_device), events.filter(pc.invert(on_device))
    nothing = events.slice(0, 0)
    kernels = _computing(device) if is_imported else nothing
    operated = operators(host) if is_imported else nothing
    if of_rank.works:
        working, held_up = device, _of(device, "wait")
        issued = pa.concat_tables([_of(device, *OPERATION_KINDS), _not_in(host, of_rank.shown)])
        kinds = (*WORK_KINDS, *(() if is_imported else ("user", "module")))
        launching = pa.concat_tables([_of(host, *kinds), operated])
    else:
        working, held_up = events, _of(host, *OPERATION_KINDS)
        issued, launching, kernels = _of(events, *OPERATION_KINDS), nothing, operated
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


def _on_device(events: pa.Table) -> pa.ChunkedArray:
    return where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:"))


def _of(events: pa.Table, *kinds: str) -> pa.Table:
    return events.filter(have(events["kind"], kinds))


def _computing(device: pa.Table) -> pa.Table:
    """The kernels that compute."""
    return of_purpose(device_kernels(device), COMPUTE)


def _begun_outside(rows: pa.Table, spans: pa.Table) -> pa.Table:
    """The rows that begin in none of the spans."""
    taken = spans_of(spans)
    start = numbers(rows["start"])
    at = np.searchsorted(taken[:, 0], start, side="right") - 1
    inside = (at >= 0) & (start < taken[at, 1]) if len(taken) else np.zeros(len(start), np.bool_)
    return rows.filter(bool_array(~inside))


def _by_stream(work: pa.Table, waits: pa.Table) -> Intervals:
    """Work without the time in which its own stream was held up by communication; that another
    stream waits (for what it has prefetched, say) holds up nothing here.
    """
    streams = {lane for chunk in work["lane"].chunks for lane in chunk.unique().to_pylist()}
    return union(
        *(
            subtract(
                spans_of(work.filter(have(work["lane"], [stream]))),
                spans_of(waits.filter(have(waits["lane"], [stream]))),
            )
            for stream in streams
        )
    )


def _not_in(host: pa.Table, shown: npt.NDArray[np.int64]) -> pa.Table:
    """Operations that no device lane shows: the host carried them out (gloo, barriers)."""
    issued = _of(host, *OPERATION_KINDS)
    limits = pc.min_max(issued["correlation"])
    if not limits["min"].is_valid:
        return issued
    # of a long run only what could be meant: the whole would be sorted into a table each time
    low, high = np.searchsorted(shown, [limits["min"].as_py(), limits["max"].as_py() + 1])
    near = number_array(shown[low:high])
    return issued.filter(pc.invert(pc.is_in(issued["correlation"], near)))


def _by_category(issued: pa.Table) -> dict[str, pa.Table]:
    """Communication by category: calls, waits and transfers."""
    groups, found = issued["group"], {}
    for name in COMMUNICATION:
        of_category = fulfil(groups, partial(_is_of, name))
        if name == category_of(""):
            of_category = pc.or_(of_category, groups.is_null())
        found[name] = issued.filter(of_category)
    return found


def _is_of(category: str, group: str) -> bool:
    return category_of(group.partition(":")[0]) == category
