"""Runs that are still being recorded: which they are, how far they have come, and the badge.

assets/live.js asks /api/live again and again. Where a run has grown it has the page laid out anew,
with the same URL; the timeline fetches what is new by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from dash import html
from flask import Flask, Response, jsonify

from dashboard.pages.markup import dashed

if TYPE_CHECKING:
    from dashboard.run import Run
    from dashboard.runs.follow import Follower

    Followers = Mapping[int, Follower[Run]]
    """By the run's number in the dashboard."""


def badge(follower: Follower[Run]) -> html.Button:
    """What says LIVE; a click goes back to the end of the run. live.js keeps it up to date."""
    return html.Button(
        id="shell-live",
        className="live-badge",
        type="button",
        title="This run is being recorded. Click: back to its end",
        **dashed(data_state=follower.status.state),
    )


def register(server: Flask, followers: Followers) -> None:
    """Add the route that says how far the followed runs have come."""

    @server.get("/api/live")
    def live() -> Response:
        return jsonify({number: asdict(one.status) for number, one in followers.items()})


def follow(runs: MutableSequence[Run], followers: Followers) -> None:
    """Put each new opening of a followed run in the place of the one before, from now on."""

    def keep(number: int, run: Run) -> None:
        runs[number] = run

    for number, follower in followers.items():
        follower.start(lambda run, number=number: keep(number, run))  # type: ignore[misc]
