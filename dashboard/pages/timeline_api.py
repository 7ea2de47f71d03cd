"""The routes that the timeline's canvas asks: lanes once, then windows and single events.

Runs are named by their number among those that the dashboard was started with; every other value
is checked, and what is wrong gets status 400 with one line of text.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial, wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from flask import Flask, Response, jsonify, request

from dashboard.analysis.path_stays import Stay, path_stays, stays_between
from dashboard.timeline.details import event_details
from dashboard.timeline.index import open_timeline
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.window import LAST_ROW, MAX_ROWS, MAX_WIDTH, Window, merged, query
from dashboard.timeline.wire import encode
from tracer.errors import RankscopeError, UsageError
from tracer.schema import KINDS

if TYPE_CHECKING:
    from dashboard.run import Run

_WORTH_COMPRESSING: Final = 4_096
"""Bytes; smaller replies fit into a few packets anyhow."""
_ENCODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "zstd": partial(pa.Codec("zstd", compression_level=1).compress, asbytes=True),
    "gzip": partial(gzip.compress, compresslevel=1),
}
"""By preference. The fastest levels: a reply of 1 MB takes them 3 and 15 ms."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,16}")
"""Up to 1e16 ns (116 days) either side of the run's start, exact in a double."""


class Timelines:
    """The timeline of each run, built when it is first looked at."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._built: dict[int, Timeline] = {}
        self._paths: dict[int, list[Stay]] = {}
        self._of: dict[int, Run] = {}
        self._lock = Lock()

    def __getitem__(self, index: int) -> Timeline:
        """The timeline of that run; UsageError where there is none."""
        if not 0 <= index < len(self._runs):
            raise UsageError(f"this dashboard shows runs 0 to {len(self._runs) - 1}")
        with self._lock:
            run = self._runs[index]
            if self._of.get(index) is not run:  # a followed run is opened anew as it grows
                self._of[index] = run
                self._built[index] = open_timeline(run)
                self._paths.pop(index, None)
            return self._built[index]

    def path(self, index: int) -> list[Stay]:
        """The critical path of that run; UsageError where there is none."""
        _ = self[index]
        with self._lock:
            if index not in self._paths:
                self._paths[index] = path_stays(self._runs[index])
            return self._paths[index]


def register(server: Flask, runs: Sequence[Run]) -> None:
    """Add the routes to the server."""
    timelines = Timelines(runs)

    @server.get("/api/timeline/<int:index>/lanes")
    @_refuse_with_400
    def lanes(index: int) -> Response:
        return _compressed(jsonify(_describe(timelines[index])))

    @server.get("/api/timeline/<int:index>/window")
    @_refuse_with_400
    def window(index: int) -> Response:
        timeline = timelines[index]
        asked = _window(timeline)
        picture = query(timeline, asked)
        body = encode(timeline, picture, asked_ns_per_pixel=asked.ns_per_pixel)
        return _compressed(Response(body, mimetype="application/octet-stream"))

    @server.get("/api/timeline/<int:index>/merged")
    @_refuse_with_400
    def merged_events(index: int) -> Response:
        timeline = timelines[index]
        start, end = _span()
        found = merged(timeline, _number("row", 0, timeline.row_count - 1), start, end)
        events = [int(event) for event in found.events]
        return jsonify(
            {
                "count": found.count.tolist(),
                "busy": found.busy.tolist(),
                "event": (*events, None)[0],
            }
        )

    @server.get("/api/timeline/<int:index>/path")
    @_refuse_with_400
    def path(index: int) -> Response:
        start, end = _span()
        width = _number("width", 1, MAX_WIDTH)
        found = stays_between(timelines.path(index), start, end, width)
        return jsonify({"stays": [[stay.rank, stay.start, stay.end] for stay in found]})

    @server.get("/api/timeline/<int:index>/event/<int:rank>/<int:row>")
    @_refuse_with_400
    def event(index: int, rank: int, row: int) -> Response:
        return jsonify(event_details(timelines[index], rank, row))


def _describe(timeline: Timeline) -> dict[str, Any]:
    return {
        "lanes": [asdict(lane) for lane in timeline.lanes],
        "rows": timeline.row_count,
        "steps": [[s.rank, s.step, s.start, s.duration] for s in timeline.steps],
        "span": timeline.span,
        "kinds": KINDS,
        "present": _present_kinds(timeline),
        "events": len(timeline.start),
    }


def _present_kinds(timeline: Timeline) -> list[str]:
    codes = timeline.kind if timeline.occupancy is None else timeline.occupancy.series_kind
    return [KINDS[code] for code in np.unique(codes)]


def _window(timeline: Timeline) -> Window:
    start, end = _span()
    width = _number("width", 1, MAX_WIDTH)
    first_row = _number("row0", 0, min(timeline.row_count, LAST_ROW))
    end_row = _number("row1", first_row, min(first_row + MAX_ROWS, LAST_ROW))
    return Window(start=start, end=end, width=width, first_row=first_row, end_row=end_row)


def _compressed(reply: Response) -> Response:
    """The same in fewer bytes, if the browser takes them and they are worth it."""
    body = reply.get_data()
    if len(body) < _WORTH_COMPRESSING:
        return reply
    for encoding, compress in _ENCODINGS.items():
        if request.accept_encodings[encoding]:
            reply.set_data(compress(body))
            reply.headers["Content-Encoding"] = encoding
            break
    reply.headers["Vary"] = "Accept-Encoding"
    return reply


def _span() -> tuple[int, int]:
    start, end = _number("t0"), _number("t1")
    if end <= start:
        raise UsageError(f"t1={end} is not after t0={start}")
    return start, end


def _number(name: str, low: int | None = None, high: int | None = None) -> int:
    text = request.args.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"{name}={text[:40]!r}: wanted a whole number")
    value = int(text)
    if (low is not None and value < low) or (high is not None and value > high):
        raise UsageError(f"{name}={value}: wanted {low} to {high}")
    return value


def _refuse_with_400(view: Callable[..., Response]) -> Callable[..., Response]:
    @wraps(view)
    def checked(**arguments: int) -> Response:
        try:
            return view(**arguments)
        except RankscopeError as error:
            return Response(str(error), status=400, mimetype="text/plain")

    return checked
