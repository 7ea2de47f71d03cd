"""One rank's events as rows to draw: its lanes, and in each the events by row, then start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.timeline.by_name import NO_BYTES
from dashboard.timeline.nesting import nesting_depth
from tracer.schema import KINDS

Ints = NDArray[np.int64]

_STEP: Final = KINDS.index("step")
_NONE: Final = -1
"""In place of a number that an event does not have."""


@dataclass(slots=True)
class Columns:
    """Columns of some events of one rank, as `Timeline` has them, and what they moved (bytes)."""

    start: Ints
    duration: Ints
    kind: NDArray[np.uint8]
    name: NDArray[np.int32]
    step: NDArray[np.int32]
    stage: NDArray[np.int32]
    microbatch: NDArray[np.int32]
    source: NDArray[np.uint32]
    payload: Ints

    def take(self, order: NDArray[Any]) -> Columns:
        """These events of them, in this order."""
        return Columns(*(getattr(self, name)[order] for name in Columns.__slots__))


def columns_of(table: pa.Table, names: dict[str, int]) -> Columns:
    """All events of a rank; `names` grows by those that are new to it."""
    kinds = {name: code for code, name in enumerate(KINDS)}
    return Columns(
        start=_numbers(table["start"], np.int64),
        duration=_numbers(table["duration"], np.int64),
        kind=_codes(table["kind"], kinds).astype(np.uint8),
        name=_codes(table["name"], names).astype(np.int32),
        step=_numbers(table["step"].fill_null(_NONE), np.int32),
        stage=_numbers(table["stage"].fill_null(_NONE), np.int32),
        microbatch=_numbers(table["microbatch"].fill_null(_NONE), np.int32),
        source=np.arange(table.num_rows, dtype=np.uint32),
        payload=_numbers(table["bytes"].fill_null(NO_BYTES), np.int64),
    )


def lanes_of(table: pa.Table, columns: Columns) -> Iterable[tuple[str, list[Columns]]]:
    """Each lane's name and the events of each of its rows; steps are drawn as lines."""
    for lane, members in _lane_members(table, columns.kind):
        yield lane, list(_rows(columns.take(members)))


def steps_of(rank: int, columns: Columns) -> Ints:
    """Rank, step, start and duration of each step that has a number."""
    steps = columns.take(np.flatnonzero((columns.kind == _STEP) & (columns.step > _NONE)))
    ranks = np.full(len(steps.start), rank, np.int64)
    return np.stack([ranks, steps.step.astype(np.int64), steps.start, steps.duration], axis=1)


def _numbers(column: pa.ChunkedArray, dtype: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy(), dtype=dtype)


def _codes(column: pa.ChunkedArray, known: dict[str, int]) -> NDArray[np.int64]:
    """The place of each value in `known`, which grows by the values that are new to it."""
    parts = [np.zeros(0, np.int64)]
    for chunk in column.chunks:
        words = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        places = [known.setdefault(str(word), len(known)) for word in words.dictionary.to_pylist()]
        parts.append(np.asarray([*places, 0], np.int64)[words.indices.to_numpy(False)])
    return np.concatenate(parts)


def _lane_members(
    table: pa.Table, kind: NDArray[np.uint8]
) -> Iterable[tuple[str, NDArray[np.intp]]]:
    """Each lane's name and the events on it, host lanes first."""
    known: dict[str, int] = {}
    lane = _codes(table["lane"], known)
    drawn = np.flatnonzero(kind != _STEP)
    members = _by_code(lane[drawn], len(known))
    for name in sorted(known, key=_lane_order):
        places = drawn[members[known[name]]]
        if len(places):
            yield name, places


def _by_code(codes: Ints, count: int) -> list[NDArray[np.intp]]:
    """The places of each code from 0 to `count` - 1, in order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, count)))


def _lane_order(lane: str) -> tuple[bool, bool, str]:
    return not lane.startswith("host:"), lane != "host:main", lane


def _rows(events: Columns) -> Iterable[Columns]:
    end = events.start + events.duration
    if bool((events.start[1:] > events.start[:-1]).all()):  # they come in order of start
        order = np.arange(len(end))
    else:
        order = np.lexsort((-end, events.start))
    depth = nesting_depth(events.start[order], end[order])
    for places in _by_code(depth, int(depth.max(initial=0)) + 1):
        yield events.take(order[places])
