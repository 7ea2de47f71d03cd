"""The demo as `make demo ARGS=--no-serve` runs it, twice into the same directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
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


@pytest.mark.distributed
def test_ctrl_c_while_it_records_ends_the_demo_and_its_ranks(tmp_path: Path) -> None:
    """Ctrl-C reaches the demo and torchrun; each rank is in a group of its own."""
    demo = subprocess.Popen(
        [sys.executable, "scripts/demo.py", "--out", str(tmp_path / "demo"), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "demo" / "run.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        family = psutil.Process(demo.pid).children(recursive=True)
        assert len(family) >= 5  # torchrun and four ranks
        os.killpg(demo.pid, signal.SIGINT)
        printed, _ = demo.communicate(timeout=60)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)

    assert demo.returncode == 130
    assert "rankscope" not in printed
    assert not psutil.wait_procs(family, timeout=10)[1]
