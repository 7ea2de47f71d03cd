"""Chrome's trace JSON, which chrome://tracing, Perfetto and many scripts read.

Ranks are processes, lanes are threads; `ts` and `dur` are in µs with three decimals, so that no
nanosecond is lost. The category of an event is its kind, its arguments are its other columns. The
key `rankscope` before the events holds what `run.json` says, and a metadata event per rank what
that rank's own file says, so that `rankscope import kineto` makes the same run of it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.export.files import Advance, replacing_file
from dashboard.export.flows import NONE, Flows, Ids, flows
from dashboard.export.places import in_mesh_order, name_of
from dashboard.export.selection import Selection
from dashboard.export.tracks import Tracks, lay_out
from tracer.json_values import strict_json
from tracer.schema import EVENT_SCHEMA, FORMAT_VERSION

HEADER: Final = "rankscope"
"""The key of what makes the file one of ours."""
RANK_FACTS: Final = "rankscope_rank"
"""Name of the metadata events with the facts of ranks."""
_NOT_ARGUMENTS: Final = ("start", "duration", "kind", "name")
ARGUMENTS: Final = tuple(name for name in EVENT_SCHEMA.names if name not in _NOT_ARGUMENTS)
_CHUNK: Final = 1 << 14
_COLLECTIVE: Final = "collective"


def write(chosen: Selection, out: Path, advance: Advance) -> None:
    """Write `out`, compressed if its name ends with `.gz` (viewers read both).

    Raises:
        UsageError: `out` cannot be written.
    """
    ranks = in_mesh_order(chosen)
    first_pass = _Arrivals()
    for order, rank in enumerate(ranks):
        first_pass.add(chosen.events(rank), rank, order)
        advance(0.2)
    with replacing_file(out) as binary, io.TextIOWrapper(binary, encoding="utf-8") as file:
        file.write(_head(chosen))
        separator = ""
        for order, rank in enumerate(ranks):
            for event in _rank(chosen, rank, order, first_pass):
                file.write(separator + event)
                separator = ",\n"
            advance(0.8)
        file.write("\n]}\n")


def _head(chosen: Selection) -> str:
    run = chosen.run
    about = {
        "format_version": FORMAT_VERSION,
        "name": run.name,
        "clocks": str(run.clock),
        "run": asdict(run.meta),
    }
    return f'{{"displayTimeUnit": "ms",\n"{HEADER}": {strict_json(about)},\n"traceEvents": [\n'


class _Arrivals:
    """When the first and the last member arrived at each collective: an arrow's two ends."""

    def __init__(self) -> None:
        self._ids: Ids = np.zeros(0, np.uint64)
        self._bounds: NDArray[np.int64] = np.zeros((0, 4), np.int64)
        """Start and order of the first member, and of the last."""

    def add(self, events: pa.Table, rank: int, order: int) -> None:
        """Another rank, which is the `order`th in the file: of those who arrive at the same time
        the first in the file is the first.
        """
        found = flows(events, rank).collective
        places = np.flatnonzero(found != NONE)
        start = events["start"].to_numpy()[places]
        here = np.full(len(places), order, np.int64)
        bounds = np.concatenate([self._bounds, np.stack([start, here, start, here], axis=1)])
        ids = np.concatenate([self._ids, found[places]])
        sequence = np.lexsort((bounds[:, 1], bounds[:, 0], ids))
        ids, bounds = ids[sequence], bounds[sequence]
        begins = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
        latest = np.lexsort((bounds[:, 3], bounds[:, 2], ids))
        ends = np.append(begins[1:], len(ids))[: len(begins)] - 1
        bounds[begins, 2:] = bounds[latest[ends], 2:]
        self._ids, self._bounds = ids[begins], bounds[begins]

    def phases(self, ids: Ids, start: NDArray[np.int64], order: int) -> list[str]:
        """`s`, `t` or `f`: the first member, one between, the last; nothing where it is alone."""
        if not len(self._ids):
            return [""] * len(ids)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        bounds = self._bounds[at]
        mine = np.stack([start, np.full(len(ids), order)], axis=1)
        first, last = (np.all(mine == bounds[:, part], axis=1) for part in ([0, 1], [2, 3]))
        phase = np.where(first, "s", np.where(last, "f", "t"))
        found: list[str] = np.where((ids == NONE) | (first & last), "", phase).tolist()
        return found


def _rank(chosen: Selection, rank: int, order: int, arrivals: _Arrivals) -> Iterator[str]:
    facts = chosen.run.facts[rank]
    labels = ", ".join([facts.host, facts.device, *(f"stage {stage}" for stage in facts.stages)])
    events = chosen.events(rank)
    laid, arrows = lay_out(events), flows(events, rank)
    yield from _named(rank, {RANK_FACTS: asdict(facts)})
    yield from _named(rank, {"process_name": {"name": name_of(chosen.run, rank)}})
    yield from _named(rank, {"process_labels": {"labels": labels}})
    yield from _named(rank, {"process_sort_index": {"sort_index": order}})
    for thread, track in enumerate(laid.tracks):
        yield from _named(rank, {"thread_name": {"name": track.title}}, thread)
        yield from _named(rank, {"thread_sort_index": {"sort_index": thread}}, thread)
    phases = arrivals.phases(arrows.collective, events["start"].to_numpy(), order)
    yield from _events(events, rank, laid, arrows, phases, chosen.origin_ns)
    yield from _counters(chosen.counters(rank), rank, chosen.origin_ns)


def _named(rank: int, said: Mapping[str, Any], thread: int = 0) -> Iterator[str]:
    for name, args in said.items():
        yield strict_json({"ph": "M", "name": name, "pid": rank, "tid": thread, "args": args})


def _events(
    events: pa.Table, rank: int, laid: Tracks, arrows: Flows, phases: list[str], origin: int
) -> Iterator[str]:
    for first in range(0, events.num_rows, _CHUNK):
        part = slice(first, first + _CHUNK)
        rows = events.slice(first, _CHUNK)
        columns = (
            rows["start"].to_pylist(),
            rows["duration"].to_pylist(),
            laid.of_event[part].tolist(),
            _words(rows["kind"]),
            _words(rows["name"]),
            _arguments(rows),
            phases[part],
            *(ids[part].tolist() for ids in (arrows.collective, arrows.sent, arrows.received)),
            arrows.operation[part].tolist(),
            rows["lane"].cast(pa.string()).to_pylist(),
        )
        for row in zip(*columns, strict=True):
            yield from _event(rank, origin, *row)


def _event(
    rank: int,
    origin: int,
    start: int,
    duration: int,
    thread: int,
    kind: str,
    name: str,
    arguments: Mapping[str, Any],
    phase: str,
    collective: int,
    sent: int,
    received: int,
    operation: int,
    lane: str,
) -> Iterator[str]:
    """One event and the ends of its arrows, which lie inside of it."""
    begin, end = start + origin, start + duration + origin
    place = f'"pid": {rank}, "tid": {thread}'
    yield (
        f'{{"ph": "X", "cat": {_quoted(kind)}, "name": {_quoted(name)}, {place}, '
        f'"ts": {_us(begin)}, "dur": {_us(duration)}, "args": {json.dumps(arguments)}}}'
    )
    if phase:
        yield _arrow(phase, _COLLECTIVE, collective, place, begin)
    if sent:
        yield _arrow("s", "message", sent, place, begin)
    if received:
        yield _arrow("f", "message", received, place, max(end - 1, begin))
    if operation:
        on_host = lane.startswith("host:")
        yield _arrow("s" if on_host else "f", "operation", operation, place, begin)


def _arrow(phase: str, name: str, number: int, place: str, time: int) -> str:
    ending = ', "bp": "e"' if phase == "f" else ""
    return (
        f'{{"ph": "{phase}", "cat": "{name}", "name": "{name}", "id": "{number:x}", {place}, '
        f'"ts": {_us(time)}{ending}}}'
    )


def _counters(counters: pa.Table, rank: int, origin: int) -> Iterator[str]:
    columns = (counters[name].to_pylist() for name in ("ts", "name", "value"))
    for time, name, value in zip(*columns, strict=True):
        said = {"ph": "C", "cat": "counter", "name": name, "pid": rank, "tid": 0}
        yield f'{json.dumps(said)[:-1]}, "ts": {_us(time + origin)}, "args": {_value(value)}}}'


def _value(value: float) -> str:
    """A number; JSON has no word for NaN and infinities, so these stand as text."""
    text = json.dumps(value) if np.isfinite(value) else json.dumps(str(value))
    return f'{{"value": {text}}}'


def _arguments(rows: pa.Table) -> Iterable[dict[str, Any]]:
    columns = [_words(rows[name]) for name in ARGUMENTS]
    for row in zip(*columns, strict=True):
        yield {k: value for k, value in zip(ARGUMENTS, row, strict=True) if value is not None}


def _words(column: pa.ChunkedArray) -> list[Any]:
    plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    found: list[Any] = plain.to_pylist()
    return found


def _us(ns: int) -> str:
    """1234567 → `1234.567`: by digits, since a float would round late times."""
    return f"{ns // 1000}.{ns % 1000:03d}"


def _quoted(text: str) -> str:
    return json.dumps(text)
