"""The Overview: where its links lead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plotly.utils import PlotlyJSONEncoder

from dashboard import open_run
from dashboard.analysis.replay import replayed_steps as budget
from dashboard.pages import overview
from dashboard.pages.state import ViewState, parse
from tests.support.toy import Event, write_run


def test_the_longest_step_is_that_of_the_run_also_where_few_are_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 12 steps 1 to 3 and 7 to 9 are replayed; the fifth, from 500 to 800, is the longest."""
    monkeypatch.setattr(budget, "MOST_EVENTS", 1)
    events = [
        Event(
            start=100 * step + 200 * (step > 5),
            duration=300 if step == 5 else 100,
            kind="step",
            step=step,
        )
        for step in range(12)
    ]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    followed = run.critical_path()
    assert followed.steps["step"].to_pylist() == [2, 3, 8, 9]

    def windows(shown: str) -> list[tuple[int, int] | None]:
        addresses = [part.partition('"')[0] for part in shown.split('"href": "')[1:]]
        return [
            parse(address.partition("?")[2], 1).window
            for address in addresses
            if address.startswith("/timeline?") and "path=1" in address
        ]

    page = json.dumps(overview.layout([run], ViewState()), cls=PlotlyJSONEncoder)
    assert windows(page) == [(500, 800)]
    some = ViewState(steps=(6, 11))
    page = json.dumps(overview.layout([run], some), cls=PlotlyJSONEncoder)
    assert windows(page) == [(800, 900)]
