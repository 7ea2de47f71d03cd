"""The demo as `make demo ARGS=--no-serve` runs it, twice into the same directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dashboard import open_run
from tests.test_repo.markdown import ROOT


@pytest.mark.distributed
def test_the_demo_records_and_reports_and_can_be_repeated(tmp_path: Path) -> None:
    run_ids = []
    for _ in range(2):
        printed = subprocess.run(
            [sys.executable, "scripts/demo.py", "--no-serve", "--out", str(tmp_path / "demo")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

        run = open_run(tmp_path / "demo")
        run_ids.append(run.meta.run_id)
        assert run.problems == ()
        assert run.ranks == (0, 1, 2, 3)
        assert "bubble" in printed

    assert run_ids[0] != run_ids[1]
