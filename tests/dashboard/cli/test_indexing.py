"""A large run is indexed before it is served, and its events do not stay in memory."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.cli import indexing
from dashboard.runs import open as opening
from dashboard.runs.caches import FOLDER
from dashboard.runs.opened import LazyTables
from dashboard.timeline import index
from dashboard.timeline.index import FILE
from tests.test_repo.markdown import ROOT

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"


def test_a_small_run_is_served_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(SAMPLE)
    assert indexing.indexed(run) is run
    assert capsys.readouterr() == ("", "")


def test_a_large_run_is_indexed_with_a_bar_and_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("needs_index", "open_timeline"):
        monkeypatch.setattr(indexing, name, partial(getattr(index, name), few_events=0))
    monkeypatch.setattr(opening, "MANY_EVENTS", 0)
    sample = shutil.copytree(SAMPLE, tmp_path / "[red]sample")
    run = open_run(sample)
    again = indexing.indexed(run)
    assert (sample / FOLDER / FILE).exists()
    assert isinstance(again.tables, LazyTables)
    assert again.event_count == run.event_count
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"Index of [red]sample ({run.event_count:,} events)" in printed.err
    assert "100%" in printed.err
    assert indexing.indexed(again) is again
