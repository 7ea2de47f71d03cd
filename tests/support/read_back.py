"""Read exported files back, each by its own reader and the rules of the viewer, apart from the code
under test: rows with the columns of `run.events()`, nulls left out.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from dashboard.runs import Recording
from tracer.schema import EVENT_SCHEMA

Row = dict[str, Any]


def rows_of(run: Recording, **which: Any) -> list[Row]:
    """What is to be found in every export."""
    return in_order([_known(row) for row in run.events(**which).to_pylist()])


def in_order(rows: list[Row]) -> list[Row]:
    """The same whatever order they were written in."""
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def _known(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


def content(path: Path) -> bytes:
    """Of a file, compressed or not."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def read_parquet(path: Path) -> list[Row]:
    """All files of `events/`."""
    parts = [pq.read_table(file) for file in sorted((path / "events").iterdir())]
    return [_known(row) for row in pa.concat_tables(parts).to_pylist()]


def read_csv(path: Path) -> list[Row]:
    """Numbers where the column is one; an empty field is null, as is an empty name."""
    numbers = {f.name for f in EVENT_SCHEMA if pa.types.is_integer(f.type)} | {"rank"}
    rows = []
    for row in csv.DictReader(content(path).decode().splitlines()):
        found = {k: int(v) if k in numbers and v else v for k, v in row.items()}
        rows.append({k: v for k, v in found.items() if v != "" or k == "name"})
    return rows


def read_chrome(path: Path) -> list[Row]:
    """Complete events; the process is the rank."""
    trace = json.loads(content(path))
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    begin = min((_ns(event["ts"]) for event in events), default=0)
    return [
        {
            "rank": event["pid"],
            "start": _ns(event["ts"]) - begin,
            "duration": _ns(event["dur"]),
            "kind": event["cat"],
            "name": event["name"],
            **event["args"],
        }
        for event in events
    ]


def _ns(us: float) -> int:
    return round(us * 1000)


@dataclass
class Slice:
    """One event as the trace processor has it: `flows` are those that begin or end with it."""

    row: Row
    track: int
    depth: int
    flows: list[tuple[int, int]] = field(default_factory=list)
    """Time and number."""


@dataclass
class PerfettoTrace:
    """The tables that the trace processor makes of a file."""

    slices: list[Slice]
    counters: list[tuple[str, int, str, float]]
    """Process, time, name, value."""
    processes: dict[int, str]
    """pid → name, in the order in which they are drawn."""
    threads: dict[int, tuple[int, str]]
    flows: dict[int, list[Slice]]
    """Number → the slices that it connects, by time."""


def parse_perfetto(path: Path) -> PerfettoTrace:
    """By the rules of the trace processor: packets in order of time (stable), words by number, each
    track a stack whose top an end closes.

    Fails on what it would drop or bend: an end without a beginning, a word that was not sent, a
    child that outlasts its parent.
    """
    trace = Trace()
    trace.ParseFromString(content(path))
    words: dict[tuple[str, int], str] = {}
    tracks: dict[int, Any] = {0: None}
    events = []
    assert trace.packet[0].sequence_flags == trace.packet[0].SEQ_INCREMENTAL_STATE_CLEARED
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id
        for table in packet.interned_data.DESCRIPTOR.fields:
            for entry in getattr(packet.interned_data, table.name):
                text = entry.str.decode() if table.name.endswith("values") else entry.name
                assert words.setdefault((table.name, entry.iid), text) == text
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in tracks or not packet.track_descriptor.uuid
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            assert packet.track_event.track_uuid in tracks, "described before its first event"
            events.append((packet.timestamp, packet.track_event))
    return _processed(sorted(events, key=lambda event: event[0]), words, tracks)


def _processed(
    events: list[tuple[int, Any]], words: dict[tuple[str, int], str], tracks: dict[int, Any]
) -> PerfettoTrace:
    slices: list[Slice] = []
    counters: list[tuple[str, int, str, float]] = []
    stacks: dict[int, list[Slice]] = defaultdict(list)
    flows: dict[int, list[Slice]] = defaultdict(list)
    described = {uuid: track for uuid, track in tracks.items() if track is not None}
    names = {
        uuid: track.process.process_name
        for uuid, track in described.items()
        if track.HasField("process")
    }
    for time, event in events:
        track = described[event.track_uuid]
        if event.type == TrackEvent.TYPE_COUNTER:
            assert track.HasField("counter")
            counters.append(
                (names[track.parent_uuid], time, track.name, event.double_counter_value)
            )
            continue
        if event.track_uuid == 1:
            continue  # what run.json says
        stack = stacks[event.track_uuid]
        if event.type == TrackEvent.TYPE_SLICE_END:
            assert stack, "an end without a beginning"
            found = stack.pop()
            found.row["duration"] = time - found.row["start"]
        else:
            found = Slice(_row(event, time, words, described), event.track_uuid, len(stack))
            slices.append(found)
            if event.type == TrackEvent.TYPE_SLICE_BEGIN:
                stack.append(found)
            else:
                assert event.type == TrackEvent.TYPE_INSTANT
        for number in event.flow_ids:
            found.flows.append((time, number))
            flows[number].append(found)
    assert not any(stacks.values()), "a beginning without an end"
    order = sorted(
        (t for t in described.values() if t.HasField("process")),
        key=lambda t: t.sibling_order_rank,
    )
    return PerfettoTrace(
        slices=slices,
        counters=counters,
        processes={t.process.pid: t.process.process_name for t in order},
        threads={
            t.thread.tid: (t.thread.pid, t.thread.thread_name)
            for t in described.values()
            if t.HasField("thread")
        },
        flows=flows,
    )


def _row(event: Any, time: int, words: dict[tuple[str, int], str], tracks: dict[int, Any]) -> Row:
    notes = {
        words["debug_annotation_names", note.name_iid]: words[
            "debug_annotation_string_values", note.string_value_iid
        ]
        if note.string_value_iid
        else note.int_value
        for note in event.debug_annotations
    }
    kind = words["event_categories", event.category_iids[0]]
    track = tracks[event.track_uuid]
    while track.parent_uuid and not track.HasField("thread"):
        track = tracks[track.parent_uuid]
    return {
        "rank": (track.thread if track.HasField("thread") else track.process).pid - 1,
        "start": time,
        "duration": 0,
        "kind": kind,
        "name": words["event_names", event.name_iid],
        **({"lane": track.thread.thread_name} if track.HasField("thread") else {}),
        **notes,
    }


def read_perfetto(path: Path) -> list[Row]:
    """The slices, times from the first of them."""
    slices = parse_perfetto(path).slices
    begin = min((found.row["start"] for found in slices), default=0)
    return [found.row | {"start": found.row["start"] - begin} for found in slices]


READERS = {
    "perfetto": read_perfetto,
    "chrome": read_chrome,
    "parquet": read_parquet,
    "csv": read_csv,
}
