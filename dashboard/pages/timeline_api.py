"""The routes that the timeline's canvas asks: lanes once, then windows and single events.

Runs are named by their number among those that the dashboard was started with; every other value
is checked, and what is wrong gets status 400 with one line of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from flask import Flask, Response, jsonify

from dashboard.analysis.dimensions import coordinate, role_of
from dashboard.pages.timeline_requests import (
    asked_number,
    asked_span,
    compressed,
    refuse_with_400,
)
from dashboard.timeline.details import event_details
from dashboard.timeline.index import open_timeline
from dashboard.timeline.lanes import Lane, Timeline
from dashboard.timeline.steps import all_steps
from dashboard.timeline.window import LAST_ROW, MAX_ROWS, MAX_WIDTH, Window, merged, query
from dashboard.timeline.wire import encode
from tracer.errors import UsageError
from tracer.schema import KINDS

if TYPE_CHECKING:
    from dashboard.run import Run


class Timelines:
    """The timeline of each run, built when it is first looked at."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._built: dict[int, Timeline] = {}
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
            return self._built[index]


def register(server: Flask, timelines: Timelines) -> None:
    """Add the routes to the server."""

    @server.get("/api/timeline/<int:index>/lanes")
    @refuse_with_400
    def lanes(index: int) -> Response:
        return compressed(jsonify(_describe(timelines[index])))

    @server.get("/api/timeline/<int:index>/window")
    @refuse_with_400
    def window(index: int) -> Response:
        timeline = timelines[index]
        asked = _window(timeline)
        picture = query(timeline, asked)
        body = encode(timeline, picture, asked_ns_per_pixel=asked.ns_per_pixel)
        return compressed(Response(body, mimetype="application/octet-stream"))

    @server.get("/api/timeline/<int:index>/merged")
    @refuse_with_400
    def merged_events(index: int) -> Response:
        timeline = timelines[index]
        start, end = asked_span()
        found = merged(timeline, asked_number("row", 0, timeline.row_count - 1), start, end)
        events = [int(event) for event in found.events]
        return jsonify(
            {
                "count": found.count.tolist(),
                "busy": found.busy.tolist(),
                "event": (*events, None)[0],
            }
        )

    @server.get("/api/timeline/<int:index>/event/<int:rank>/<int:row>")
    @refuse_with_400
    def event(index: int, rank: int, row: int) -> Response:
        return jsonify(event_details(timelines[index], rank, row))


def _describe(timeline: Timeline) -> dict[str, Any]:
    return {
        "lanes": [_lane(lane) for lane in timeline.lanes],
        "rows": timeline.row_count,
        "steps": _steps(timeline),
        "span": timeline.span,
        "kinds": KINDS,
        "present": _present_kinds(timeline),
        "events": len(timeline.start),
    }


def _steps(timeline: Timeline) -> dict[str, Any]:
    steps = all_steps(timeline)
    bounds = {name: getattr(steps, name).tolist() for name in ("number", "start", "end")}
    return bounds | {"told": steps.told}


def _lane(lane: Lane) -> dict[str, Any]:
    """Its place in the mesh as `pp`, and the other dimensions as [name, index], tensor-parallel,
    the innermost, last.
    """
    others = [[name, at] for name, at in lane.coordinates.items() if role_of(name) != "pp"]
    return asdict(lane) | {
        "pp": coordinate(lane.coordinates, "pp"),
        "coordinates": sorted(others, key=lambda pair: role_of(str(pair[0])) == "tp"),
    }


def _present_kinds(timeline: Timeline) -> list[str]:
    codes = timeline.kind if timeline.occupancy is None else timeline.occupancy.series_kind
    return [KINDS[code] for code in np.unique(codes)]


def _window(timeline: Timeline) -> Window:
    start, end = asked_span()
    width = asked_number("width", 1, MAX_WIDTH)
    first_row = asked_number("row0", 0, min(timeline.row_count, LAST_ROW))
    end_row = asked_number("row1", first_row, min(first_row + MAX_ROWS, LAST_ROW))
    return Window(start=start, end=end, width=width, first_row=first_row, end_row=end_row)
