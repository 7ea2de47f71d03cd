"""All that is known of one event, and the events that belong to the same operation."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from dashboard.timeline.lanes import Timeline
from tracer.errors import UsageError
from tracer.schema import EVENT_SCHEMA


def event_details(timeline: Timeline, rank: int, row: int) -> dict[str, Any]:
    """The event's fields that are not null, with unit and meaning, and its relatives.

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
    return {
        "rank": rank,
        "row": row,
        "fields": fields,
        "related": _same_operation(timeline, rank, row, event) + _other_end(timeline, rank, event),
    }


def _same_operation(
    timeline: Timeline, rank: int, row: int, event: dict[str, Any]
) -> list[dict[str, Any]]:
    """The other spans (call, wait, transfer) of the operation on this rank."""
    if event.get("correlation") is None:
        return []
    table = timeline.tables[rank]
    same = pc.equal(table["correlation"], event["correlation"])
    places = pc.indices_nonzero(pc.fill_null(same, False)).to_pylist()
    return [_relative(timeline, rank, place) for place in places if place != row]


def _other_end(timeline: Timeline, rank: int, event: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans of the matching receive of a send, and the other way round."""
    opposite = {"send": "recv", "recv": "send"}.get(event["kind"])
    peer = timeline.tables.get(-1 if event["peer"] is None else event["peer"])
    if opposite is None or peer is None or event["seq"] is None:
        return []
    match = pc.and_(
        pc.and_(pc.equal(peer["seq"], event["seq"]), pc.equal(peer["peer"], rank)),
        pc.and_(
            pc.equal(peer["kind"].cast("string"), opposite),
            pc.equal(peer["group"].cast("string"), event["group"]),
        ),
    )
    places = pc.indices_nonzero(pc.fill_null(match, False)).to_pylist()
    return [_relative(timeline, int(event["peer"]), place) for place in places]


def _relative(timeline: Timeline, rank: int, row: int) -> dict[str, Any]:
    table = timeline.tables[rank]
    names = ("kind", "name", "lane", "start", "duration")
    return {"rank": rank, "row": row} | {name: table[name][row].as_py() for name in names}
