"""The Stragglers page: every line leads to the timeline where it is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plotly.utils import PlotlyJSONEncoder

from dashboard import open_run
from dashboard.analysis.replay import replayed_steps as budget
from dashboard.pages import stragglers
from dashboard.pages.state import ViewState, parse
from tests.support.straggler_toy import More, Toy, in_steps


def _shown(path: Path, state: ViewState) -> Any:
    page = stragglers.layout([open_run(path)], state)
    return json.loads(json.dumps(page, cls=PlotlyJSONEncoder))


def _links(part: Any) -> list[str]:
    if isinstance(part, dict):
        found = [part["href"]] if "href" in part else []
        return found + [link for value in part.values() for link in _links(value)]
    return [link for value in part for link in _links(value)] if isinstance(part, list) else []


def test_each_line_opens_the_timeline_at_its_worst_evidence(tmp_path: Path) -> None:
    run = Toy(more=in_steps(range(8), 1, More(work=20))).write(tmp_path / "run")
    page = _shown(run, ViewState(theme="dark", extra={"op": "other"}))
    links = [link for link in _links(page) if not link.startswith("data:")]
    assert len(links) == 1 + 5
    path, _, query = links[0].partition("?")
    assert path == "/timeline"
    state = parse(query, 1)
    assert state.window == (30_000, 390_000)
    assert (state.theme, state.extra) == ("dark", {})
    text = json.dumps(page)
    assert "rank 1 works 20 % longer than the ranks that do the same" in text


def test_a_run_without_stragglers_is_told_so(tmp_path: Path) -> None:
    assert "No straggler in 7 steps" in json.dumps(
        _shown(Toy().write(tmp_path / "run"), ViewState())
    )


def test_a_range_without_steps_is_told_so(tmp_path: Path) -> None:
    run = Toy().write(tmp_path / "run")
    assert "No step in the range 90-99" in json.dumps(_shown(run, ViewState(steps=(90, 99))))


def test_the_map_has_all_steps_also_where_few_are_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MOST_EVENTS", 1)
    run = open_run(Toy(steps=12).write(tmp_path / "run"))
    assert run.stragglers().steps == (2, 3, 8, 9)

    page = stragglers.layout([run], ViewState())
    assert list(page["stragglers-work"].figure.data[0].x) == list(range(1, 12))
