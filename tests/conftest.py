"""What all tests share: runs that are recorded once per session, hypothesis's profile, Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.launching import SCRIPTS, record

PROCESSES = 4

settings.register_profile("rankscope", deadline=None, max_examples=50)
settings.register_profile("thorough", parent=settings.get_profile("rankscope"), max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "rankscope"))
"""A property that holds late on a busy machine holds; pytest-timeout ends what hangs."""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""Tests that a shell started in the background ignore Ctrl-C, and so would what they start."""


_SHORT = Path(__file__).parent / "dashboard"
"""Most files here compute for seconds; those elsewhere start processes and browsers, and wait."""
_LAST_LONG = 0.85


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix files that wait with files that compute, for one core has both at a time; the last ones
    are short, so that no process is left alone with a long one.
    """
    files = list(dict.fromkeys(item.path for item in items))
    short = [path for path in files if path.is_relative_to(_SHORT)]
    long = [path for path in files if not path.is_relative_to(_SHORT)]
    place = {path: at / len(short) for at, path in enumerate(short)}
    place |= {path: _LAST_LONG * at / len(long) for at, path in enumerate(long)}
    items.sort(key=lambda item: place[item.path])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how a test failed that passed when it ran again (`--reruns`, in .ci/run)."""
    again = terminalreporter.getreports("rerun")
    if not again:
        return
    terminalreporter.section("failed once, and ran again")
    for report in again:
        terminalreporter.write_sep("_", report.nodeid)
        terminalreporter.write_line(report.longreprtext)


@dataclass(kw_only=True, slots=True, frozen=True)
class Recorded:
    """A recorded run, the parameters that the training ended with, and what it printed."""

    run: Path
    parameters: tuple[bytes, ...]
    stderr: str


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Recorded]:
    """`pp4-1f1b` (4 stages, 8 microbatches) and `pp2-tp2` (2 stages of 2 tensor ranks)."""
    scripts = {"pp4-1f1b": "pipeline.py", "pp2-tp2": "pipeline_and_tensor.py"}
    return {name: _record(tmp_path_factory, name, script) for name, script in scripts.items()}


@pytest.fixture(scope="session")
def recorded_runs(recordings: Mapping[str, Recorded]) -> Mapping[str, Path]:
    """The run directories of `recordings` by name."""
    return {name: recorded.run for name, recorded in recordings.items()}


def _record(factory: pytest.TempPathFactory, name: str, script: str) -> Recorded:
    parameters, run = factory.mktemp("parameters"), factory.mktemp("runs") / name
    done = record(run, SCRIPTS / script, [parameters], processes=PROCESSES)
    return Recorded(
        run=run,
        parameters=tuple((parameters / f"rank-{r}.bin").read_bytes() for r in range(PROCESSES)),
        stderr=done.stderr,
    )
