"""The same operation on the other ranks: who else did this, and who took longest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.words import have
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.timeline.lanes import Timeline

MOST: Final = 16
"""What the panel lists, the slowest first; it says how many it leaves out."""
_WORDS: Final = ("kind", "name")
_NUMBERS: Final = ("step", "microbatch")


def same_elsewhere(timeline: Timeline, rank: int, row: int) -> dict[str, Any]:
    """On every rank the event of the same kind, name, step and microbatch, on the same stage where
    another rank has that, and of several the one in the same place: `ranks`, the longest first,
    this one's included; `left_out`, how many more there are; `median`, of all their durations, ns.

    Raises:
        UsageError: there is no such event.
    """
    table = timeline.tables.get(rank)
    if table is None or not 0 <= row < table.num_rows:
        raise UsageError(f"rank {rank} has no event {row}")
    event = {
        name: table[name][row].as_py() for name in (*_WORDS, *_NUMBERS, "stage", "lane", "start")
    }
    place = _alike(table, event, event["stage"]).index(row)
    for stage in dict.fromkeys((event["stage"], None)):
        found = [
            _described(other, timeline.tables[other], rows[place])
            for other in timeline.tables
            if len(rows := _alike(timeline.tables[other], event, stage)) > place
        ]
        if len(found) > 1:
            break
    found.sort(key=lambda one: (-one["duration"], one["rank"]))
    durations = pa.array([one["duration"] for one in found])
    return {
        "ranks": found[:MOST],
        "left_out": max(0, len(found) - MOST),
        "median": pc.quantile(durations, 0.5)[0].as_py(),
    }


def _alike(table: pa.Table, event: dict[str, Any], stage: int | None) -> list[int]:
    """Rows like `event`, in order of start; on `stage`, unless that is None."""
    match = have(table["lane"], (event["lane"],))
    for name in _WORDS:
        match = pc.and_(match, have(table[name], (event[name],)))
    for name in _NUMBERS:
        value = event[name]
        same = pc.is_null(table[name]) if value is None else pc.equal(table[name], value)
        match = pc.and_(match, pc.fill_null(same, False))
    if stage is not None:
        match = pc.and_(match, pc.fill_null(pc.equal(table["stage"], stage), False))
    places: list[int] = pc.indices_nonzero(match).to_pylist()
    return places


def _described(rank: int, table: pa.Table, row: int) -> dict[str, Any]:
    names = ("kind", "name", "lane", "start", "duration")
    return {"rank": rank, "row": row} | {name: table[name][row].as_py() for name in names}
