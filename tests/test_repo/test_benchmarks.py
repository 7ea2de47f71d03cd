"""Every benchmark runs and prints one JSON object per figure, on a line of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_repo.markdown import ROOT

SCRIPTS = sorted(
    path for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("_")
)

QUICK = {
    "clock": ("--ranks", "2", "--seconds", "4"),
    "dashboard": ("--ranks", "8", "--windows", "20", "--no-browser"),
    "hta": ("--events", "4e3", "--ranks", "2"),
    "generate": ("--steps", "2"),
    "importing": ("--megabytes", "0.2", "--ways", "import,json_load"),
    "follow": ("--steps", "8", "--processes", "2"),
    "scale": (
        *("--events", "2e3,4e3", "--ranks-by-events", "8", "--ranks", ""),
        *("--tasks", "report,compare,window"),
    ),
    "overhead": ("--rounds", "1"),
}
"""Arguments with which a benchmark takes seconds where its figures would take minutes."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_prints_figures(script: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script.stem}", *QUICK.get(script.stem, ())],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    figures = [json.loads(line) for line in printed.splitlines()]
    assert figures
    for figure in figures:
        assert set(figure) == {"name", "value", "unit", "samples"}
        assert figure["name"].partition(".")[2], "no topic before the dot"
        assert figure["samples"] > 0
    assert len({figure["name"] for figure in figures}) == len(figures)
