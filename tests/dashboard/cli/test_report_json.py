"""`rankscope report --json` writes by parts what would be one text."""

from __future__ import annotations

import io
import json

import pytest

import dashboard.cli.report as report


@pytest.mark.parametrize("at_once", [1, 2, 7, 1_000])
def test_parts_make_up_the_text(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_WORDS_AT_ONCE", at_once)
    said = {"run": {"name": "ä", "steps": [0, 1]}, "none": None, "rows": [{"ns": 1.5}] * 9, "": {}}
    out = io.StringIO()
    report._write_json(said, out)
    assert out.getvalue() == json.dumps(said, indent=1) + "\n"
