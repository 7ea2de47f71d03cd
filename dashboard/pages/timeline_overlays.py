"""The routes for what the timeline shows beside its events: the critical path, bubbles, the plan,
counters, what a search finds, a marked stretch of time, and an operation on the other ranks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, jsonify, request

from dashboard.analysis.replay.path_stays import path_stays, stays_between
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.whole_run.overlays import bubbles_between, counters_between, plan_between
from dashboard.pages.timeline_requests import (
    asked_number,
    asked_span,
    compressed,
    refuse_with_400,
)
from dashboard.timeline.same import same_elsewhere
from dashboard.timeline.search import Hits, hit, search, ticks
from dashboard.timeline.selection import selected
from dashboard.timeline.window import MAX_WIDTH
from tracer.errors import UsageError

if TYPE_CHECKING:
    from dashboard.pages.timeline_api import Timelines
    from dashboard.run import Run
    from dashboard.timeline.lanes import Timeline

_LONGEST_SEARCH: Final = 200
_RANGE: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_MOST_LISTED: Final = 40
"""Rows of a panel's table."""


def register(server: Flask, runs: Sequence[Run], timelines: Timelines) -> None:
    """Add the routes to the server."""
    searches = _Searches()
    one_at_a_time = Lock()  # an answer takes a while, and who moves asks again meanwhile
    base = "/api/timeline/<int:index>"

    @server.get(f"{base}/path")
    @refuse_with_400
    def path(index: int) -> Response:
        start, end = asked_span()
        with one_at_a_time:
            stays = _run(runs, index).answer(_all_stays)
        found = stays_between(stays, start, end, _width())
        return compressed(jsonify([[stay.rank, stay.start, stay.end] for stay in found]))

    @server.get(f"{base}/bubbles")
    @refuse_with_400
    def bubbles(index: int) -> Response:
        with one_at_a_time:
            found = bubbles_between(_run(runs, index), *asked_span(), _width())
        return compressed(jsonify(found))

    @server.get(f"{base}/plan")
    @refuse_with_400
    def plan(index: int) -> Response:
        with one_at_a_time:
            found = plan_between(_run(runs, index), *asked_span())
        return compressed(jsonify(found))

    @server.get(f"{base}/counters")
    @refuse_with_400
    def counters(index: int) -> Response:
        return compressed(jsonify(counters_between(_run(runs, index), *asked_span(), _width())))

    @server.get(f"{base}/selection")
    @refuse_with_400
    def selection(index: int) -> Response:
        return jsonify(_selection(_run(runs, index), timelines[index]))

    @server.get(f"{base}/search")
    @refuse_with_400
    def find(index: int) -> Response:
        timeline = timelines[index]
        hits = searches.of(timeline, request.args.get("q", ""))
        count = len(hits.places)
        if not count:
            return jsonify({"count": 0, "at": None, "hit": None, "ticks": []})
        if "at" in request.args:
            at = asked_number("at", 0, count - 1)
        else:
            at = int(hits.start.searchsorted(asked_number("after"))) % count
        found = {"count": count, "at": at, "hit": hit(timeline, hits, at), "ticks": ticks(hits)}
        return compressed(jsonify(found))

    @server.get(f"{base}/same/<int:rank>/<int:row>")
    @refuse_with_400
    def same(index: int, rank: int, row: int) -> Response:
        return jsonify(same_elsewhere(timelines[index], rank, row))


class _Searches:
    """The last search, which is asked for hit after hit."""

    def __init__(self) -> None:
        self._last: tuple[Timeline, str, Hits] | None = None
        self._lock = Lock()

    def of(self, timeline: Timeline, text: str) -> Hits:
        """The hits of `text`; UsageError where it means nothing."""
        if len(text) > _LONGEST_SEARCH:
            raise UsageError(f"a search has up to {_LONGEST_SEARCH} characters")
        with self._lock:
            if self._last is None or self._last[0] is not timeline or self._last[1] != text:
                self._last = (timeline, text, search(timeline, text))
            return self._last[2]


def _all_stays(run: Any, steps: Any) -> Any:
    return path_stays(run)


def _run(runs: Sequence[Run], index: int) -> Run:
    if not 0 <= index < len(runs):
        raise UsageError(f"this dashboard shows runs 0 to {len(runs) - 1}")
    return runs[index]


def _width() -> int:
    return asked_number("width", 1, MAX_WIDTH)


def _selection(run: Run, timeline: Timeline) -> dict[str, Any]:
    """The statistics of [t0, t1) on the ranks `ranks=0-3,5` (all by default), as plain values."""
    found = selected(run, timeline, *asked_span(), _asked_ranks(run))
    spent: dict[int, dict[str, int]] = {}
    for row in found.accounting.to_pylist():
        spent.setdefault(row["rank"], {})[row["category"]] = row["duration"]
    return {
        "begin": found.begin,
        "end": found.end,
        "categories": CATEGORIES,
        "ranks": [[rank, *(of[name] for name in CATEGORIES)] for rank, of in spent.items()],
        "count": sum(found.events["count"].to_pylist()),
        "events": found.events.slice(0, _MOST_LISTED).to_pylist(),
        "left_out": max(0, found.events.num_rows - _MOST_LISTED),
    }


def _asked_ranks(run: Run) -> set[int] | None:
    """`ranks=0-3,5` → those of the run's ranks; None where all are meant."""
    text = request.args.get("ranks", "")
    if not text:
        return None
    ranges = [_RANGE.fullmatch(part) for part in text.split(",")]
    limits = [(int(one[1]), int(one[2] or one[1])) for one in ranges if one]
    if len(limits) < len(ranges):
        raise UsageError(f"ranks={text[:40]!r}: wanted numbers or ranges, as in 0-3,5")
    return {rank for rank in run.ranks for low, high in limits if low <= rank <= high}
