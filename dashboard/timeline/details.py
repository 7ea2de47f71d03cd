"""All that is known of one event, and the events that belong to the same operation."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.timeline.lanes import Timeline
from tracer.errors import UsageError
from tracer.schema import EVENT_SCHEMA

MAX_RELATED: Final = 16
"""What a panel can list; a collective of a thousand ranks says how many it leaves out."""


def event_details(timeline: Timeline, rank: int, row: int) -> dict[str, Any]:
    """The event's fields that are not null, with unit and meaning, and its relatives: other spans
    of the operation on this rank, and the calls of the other ranks that took part.

    Raises:
        UsageError: there is no such event.
    """
    table = timeline.tables.get(rank)
    if table is None or not 0 <= row < table.num_rows:
        raise UsageError(f"rank {rank} has no event {row}")
    event = {name: table[name][row].as_py() for name in table.column_names}
    fields = [
        {
            "name": field.name,
            "value": event[field.name],
            "unit": (field.metadata or {}).get(b"unit", b"").decode(),
            "meaning": (field.metadata or {}).get(b"meaning", b"").decode(),
        }
        for field in EVENT_SCHEMA
        if event.get(field.name) is not None
    ]
    related = _same_operation(timeline, rank, row, event) + _elsewhere(timeline, rank, event)
    return {
        "rank": rank,
        "row": row,
        "fields": fields,
        "related": related[:MAX_RELATED],
        "left_out": max(0, len(related) - MAX_RELATED),
    }


def _same_operation(
    timeline: Timeline, rank: int, row: int, event: dict[str, Any]
) -> list[dict[str, Any]]:
    """The other spans (call, wait, transfer) of the operation on this rank."""
    if event.get("correlation") is None:
        return []
    table = timeline.tables[rank]
    same = pc.equal(table["correlation"], event["correlation"])
    return [_relative(timeline, rank, place) for place in _places(same) if place != row]


def _elsewhere(timeline: Timeline, rank: int, event: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of other ranks: the other end of a message, the other members of a collective."""
    if event["group"] is None or event["seq"] is None:
        return []
    operation = event["name"] if event["kind"] == "wait" else event["kind"]
    opposite = {"send": "recv", "recv": "send"}.get(operation)
    if opposite is not None:
        return _calls(timeline, event["peer"], event, opposite, rank)
    others = sorted(set(timeline.tables) - {rank})
    return [call for other in others for call in _calls(timeline, other, event, "collective", None)]


def _calls(
    timeline: Timeline, rank: int | None, event: dict[str, Any], kind: str, peer: int | None
) -> list[dict[str, Any]]:
    """The calls of `rank` of that kind with the group and number of `event` (and that peer)."""
    table = None if rank is None else timeline.tables.get(rank)
    if rank is None or table is None:
        return []
    wanted = {"kind": kind, "group": event["group"]}
    match = pc.equal(table["seq"], event["seq"])
    for name, word in wanted.items():
        match = pc.and_(match, pc.equal(table[name].cast("string"), word))
    match = pc.and_(match, pc.starts_with(table["lane"].cast("string"), "host:"))
    if peer is not None:
        match = pc.and_(match, pc.equal(table["peer"], peer))
    return [_relative(timeline, rank, place) for place in _places(match)]


def _places(mask: pa.ChunkedArray) -> list[int]:
    places: list[int] = pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist()
    return places


def _relative(timeline: Timeline, rank: int, row: int) -> dict[str, Any]:
    table = timeline.tables[rank]
    names = ("kind", "name", "lane", "start", "duration")
    return {"rank": rank, "row": row} | {name: table[name][row].as_py() for name in names}
