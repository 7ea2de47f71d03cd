"""The What-if page: what takes long comes after the rest of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dash import Dash
from plotly.utils import PlotlyJSONEncoder

from dashboard import Run, open_run
from dashboard.analysis.layouts.layouts import Layouts
from dashboard.pages import whatif
from dashboard.pages.app import build_app
from dashboard.pages.callbacks import PATH
from dashboard.pages.state import ViewState

SAMPLE = Path(__file__).parents[3] / "sample_traces" / "pp4-1f1b-slow-stage"


def _shown(part: Any) -> str:
    return json.dumps(part, cls=PlotlyJSONEncoder, ensure_ascii=False)


def test_the_page_does_not_wait_for_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 ranks they took longer than a browser's patience, and nothing else was shown."""
    monkeypatch.setattr(whatif, "usual_layouts", _never)
    page = _shown(whatif.layout([open_run(SAMPLE)], ViewState(steps=(1, 3), theme="dark")))
    assert "whatif-savings" in page
    assert "whatif-plans" in page
    assert "Working out other layouts…" in page
    assert "steps=1-3&theme=dark" in page


def test_layouts_are_of_the_steps_that_the_page_asks_for() -> None:
    run = open_run(SAMPLE)
    said = _filled("steps=1-3&theme=dark")
    assert "whatif-best-layouts" in said
    error = run.answer(whatif.usual_layouts, (1, 2, 3)).model_error
    assert whatif.signed(error) in said
    assert whatif.signed(run.answer(whatif.usual_layouts).model_error) != whatif.signed(error)


def test_layouts_that_fail_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "run=7" in _filled("run=7")
    monkeypatch.setattr(whatif, "usual_layouts", _never)
    assert "Layouts failed" in _filled("")


def test_layouts_of_other_steps_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do those of another run: only who asks for the same waits for it."""
    usual, go_on = whatif.usual_layouts, threading.Event()
    asked: list[int] = []

    def slow(run: Run, steps: Sequence[int]) -> Layouts:
        asked.append(len(steps))
        if len(steps) > 3:
            go_on.wait(30)
        return usual(run, steps)

    monkeypatch.setattr(whatif, "usual_layouts", slow)
    app = build_app([open_run(SAMPLE)])
    waiting = [threading.Thread(target=_filled, args=("", app)) for _ in range(2)]
    try:
        for thread in waiting:
            thread.start()
        while not asked:
            time.sleep(0.01)
        assert "whatif-best-layouts" in _filled("steps=1-3", app)
        assert all(thread.is_alive() for thread in waiting)
    finally:
        go_on.set()
        for thread in waiting:
            thread.join()
    assert sorted(asked)[0] == 3
    assert len(asked) == 2, "who asked for the same waited, and took what was found"


def _never(*_: Any) -> Any:
    raise AssertionError("layouts were asked for")


def _filled(asked: str, app: Dash | None = None) -> str:
    """What the server answers when a browser has put the place of the layouts on its page."""
    call = {
        "output": "whatif-other-layouts.children",
        "outputs": {"id": "whatif-other-layouts", "property": "children"},
        "inputs": [{"id": "whatif-asked", "property": "data", "value": asked}],
        "changedPropIds": ["whatif-asked.data"],
    }
    app = build_app([open_run(SAMPLE)]) if app is None else app
    answer = app.server.test_client().post(PATH, json=call)
    assert answer.status_code == 200
    return _shown(answer.get_json())
