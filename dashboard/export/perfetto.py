"""Perfetto's own format, to be opened at https://ui.perfetto.dev or with `trace_processor`.

Ranks are processes, lanes are threads, in the order of the mesh; arrows are flows (flows.py), and
counters are counter tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.export.files import Advance, replacing_file
from dashboard.export.flows import NONE, flows
from dashboard.export.perfetto_packets import CATEGORIES, HELD, NAMES, NOTES, RUN, VALUES, Packets
from dashboard.export.places import in_mesh_order, name_of
from dashboard.export.selection import Selection
from dashboard.export.tracks import STEPS, Track, course, lay_out
from tracer.json_values import strict_json

_INTEGERS: Final = (
    "step", "stage", "microbatch", "seq", "peer", "bytes", "count", "correlation", "flops",
)  # fmt: skip
_WORDS: Final = ("group", "dtype")


def write(chosen: Selection, out: Path, advance: Advance) -> None:
    """Write `out`, compressed if its name ends with `.gz` (viewers read both).

    Raises:
        UsageError: the package `perfetto` is missing, or `out` cannot be written.
    """
    with replacing_file(out) as file:
        packets = Packets(file, chosen.origin_ns)
        packets.begin()
        _describe(packets, chosen)
        for order, rank in enumerate(in_mesh_order(chosen)):
            _write_rank(packets, chosen, rank, order)
            advance(1.0)
        packets.flush()


def _describe(packets: Packets, chosen: Selection) -> None:
    """What `run.json` says, as notes of an instant on a track of its own."""
    meta = chosen.run.meta
    said = {
        "run_id": meta.run_id,
        "created": meta.created,
        "world_size": meta.world_size,
        "mesh": meta.mesh and dict(zip(meta.mesh.names, meta.mesh.shape, strict=True)),
        "schedule": meta.schedule and meta.schedule.name,
        "config": dict(meta.config),
        "clocks": str(chosen.run.clock),
    }
    event = packets.event(0, RUN, packets.INSTANT)
    event.name = chosen.run.name
    for name, value in said.items():
        note = event.debug_annotations.add()
        note.name = name
        note.string_value = value if isinstance(value, str) else strict_json(value)


def _write_rank(packets: Packets, chosen: Selection, rank: int, order: int) -> None:
    facts = chosen.run.facts[rank]
    labels = [facts.host, facts.device, *(f"stage {stage}" for stage in facts.stages)]
    packets.process(rank, order, name_of(chosen.run, rank), filter(None, labels))
    events = chosen.events(rank)
    laid = lay_out(events)
    tracks = _tracks(packets, rank, laid.tracks)
    uuid_of = np.array([*tracks, 0], np.uint64)[laid.of_event]
    _write_events(packets, events, flows(events, rank), uuid_of)
    _write_counters(packets, rank, chosen.counters(rank))


def _tracks(packets: Packets, rank: int, tracks: Sequence[Track]) -> list[int]:
    """A thread per lane, below it the further rows of that lane; the steps below the process."""
    made: list[int] = []
    for number, track in enumerate(tracks):
        if track.lane == STEPS or track.row:
            parent = made[number - track.row] if track.row else packets.process_track(rank)
            made.append(packets.row(rank, number, track.title, parent))
        else:
            made.append(packets.thread(rank, number, track.lane))
    return made


def _write_events(packets: Packets, events: pa.Table, arrows: Any, uuid_of: Any) -> None:
    instant = events["duration"].to_numpy() == 0
    taken = course(events)
    notes = [packets.word(NOTES, column) for column in _INTEGERS + _WORDS]
    for first in range(0, len(taken.event), HELD):
        part = slice(first, first + HELD)
        place = taken.event[part]
        leaving = (arrows.collective[place], arrows.sent[place], arrows.operation[place])
        columns = (
            taken.time[part].tolist(),
            uuid_of[place].tolist(),
            taken.begins[part].tolist(),
            instant[place].tolist(),
            arrows.received[place].tolist(),
            zip(*(ids.tolist() for ids in leaving), strict=True),
            _rows(packets, events, place),
        )
        for time, track, begins, is_instant, arrived, left, row in zip(*columns, strict=True):
            # An arrow arrives at the end of an event, which an instant has not.
            arriving = (arrived,) if is_instant or not begins else ()
            if not begins:
                event = packets.event(time, track, packets.SLICE_END)
                left = ()
            else:
                type_ = packets.INSTANT if is_instant else packets.SLICE_BEGIN
                event = _write_begin(packets, notes, time, track, type_, row)
            event.flow_ids.extend(arrow for arrow in (*left, *arriving) if arrow != NONE)


def _write_begin(
    packets: Packets, notes: Sequence[int], time: int, track: int, type_: int, row: Sequence[Any]
) -> Any:
    """The beginning of an event: `row` as `_rows` has it, `notes` the numbers of its columns."""
    name, kind, *values = row
    event = packets.event(time, track, type_)
    event.name_iid = name
    event.category_iids.append(kind)
    add = event.debug_annotations.add
    for place, value in enumerate(values):
        if value is not None:
            note = add()
            note.name_iid = notes[place]
            if place < len(_INTEGERS):
                note.int_value = value
            else:
                note.string_value_iid = value
    return event


def _rows(packets: Packets, events: pa.Table, places: Any) -> Iterable[tuple[Any, ...]]:
    """name, kind, integers and words of some events; what is a word by its number."""
    part = events.select(["name", "kind", *_INTEGERS, *_WORDS]).take(pa.array(places))
    kinds = part["kind"].cast(pa.string())
    names = part["name"].cast(pa.string())
    # Viewers show an event without a name as nothing at all.
    named = pc.if_else(pc.equal(names, ""), kinds, names)
    return zip(
        _numbered(packets, NAMES, named),
        _numbered(packets, CATEGORIES, kinds),
        *(part[column].to_pylist() for column in _INTEGERS),
        *(_numbered(packets, VALUES, part[column].cast(pa.string())) for column in _WORDS),
        strict=True,
    )


def _numbered(packets: Packets, table: str, column: pa.ChunkedArray) -> list[int | None]:
    """The number of each word, null where there is none; new words are sent now."""
    encoded = column.combine_chunks().dictionary_encode()
    numbers = [packets.word(table, word) for word in encoded.dictionary.to_pylist()]
    found: list[int | None] = pa.array(numbers, pa.int64()).take(encoded.indices).to_pylist()
    return found


def _write_counters(packets: Packets, rank: int, counters: pa.Table) -> None:
    names = pc.unique(counters["name"]).to_pylist()
    tracks = {name: packets.counter(rank, number, name) for number, name in enumerate(names)}
    columns = (counters[name].to_pylist() for name in ("ts", "name", "value"))
    for time, name, value in zip(*columns, strict=True):
        packets.event(time, tracks[name], packets.COUNTER).double_counter_value = value
