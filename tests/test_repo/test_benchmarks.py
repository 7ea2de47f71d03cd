"""Every benchmark runs and prints one JSON object per figure, on a line of its own; all of them
together, as `make bench` runs them, end with tables, whatever happens on the way.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from benchmarks import __main__ as bench
from benchmarks._figures import median_interval
from benchmarks._ours import flushes_met, longer
from benchmarks._results import GOALS, goal_of
from tests.test_repo.markdown import ROOT

SCRIPTS = sorted(
    path for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("_")
)

QUICK = {
    "clock": ("--ranks", "2", "--seconds", "3"),
    "dashboard": ("--ranks", "8", "--windows", "20", "--no-browser"),
    "hta": ("--events", "4e3", "--ranks", "2"),
    "generate": ("--steps", "2"),
    "importing": ("--megabytes", "0.2", "--ways", "import,json_load"),
    "follow": ("--steps", "8", "--processes", "2"),
    "limits": ("--events", "1e5"),
    "scale": (
        *("--events", "2e3,4e3", "--ranks-by-events", "8", "--ranks", ""),
        *("--tasks", "report,compare,window"),
    ),
    "overhead": ("--rounds", "1"),
    "window_latency": ("--events", "5e3", "--windows", "3"),
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


def _all(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks", *arguments]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _ran(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )


def test_all_together_are_all_but_scale_which_has_a_target_of_its_own() -> None:
    assert sorted([*bench.names(), "scale"]) == [path.stem for path in SCRIPTS]


def test_the_interval_of_a_median() -> None:
    """Of ten: at most 2.5 % lie beyond the second smallest, (1 + 10) / 2^10; of six, 1 / 2^6."""
    assert median_interval([7, 3, 10, 1, 9, 2, 8, 4, 6, 5]) == (2, 9)
    assert median_interval([3, 1, 6, 2, 5, 4]) == (1, 6)
    assert median_interval([3, 1, 2]) == (1, 3)


def test_what_a_flush_takes_from_the_training_is_compared_with_its_neighbours() -> None:
    """Of 4, 4, 7, 6, 4, 5, of which the third and fourth met it: 13 - (4 + 4 + 4 + 5) / 2 = 4.5."""
    assert longer([4, 4, 7, 6, 4, 5], [(2, 3)]) == [4.5]
    assert longer([4, 7, 6, 4, 5], [(1, 2)]) == []  # it has one piece before it, and two are needed
    assert longer([1, 5, 1, 1, 9, 1], [(1, 1), (4, 4)]) == [4, 8]
    assert longer([1, 5, 1, 9, 1], [(1, 1), (3, 3)]) == [4, 8]
    assert longer([5, 9, 1], [(0, 0), (1, 1)]) == []


def test_a_flush_goes_on_after_it_slept() -> None:
    work = 1_000_000
    slept = [0] * 12
    assert flushes_met([0, work, 0, 0, work, *slept, work, work]) == [(1, 4), (17, 18)]
    assert flushes_met([work]) == [(0, 0)]
    assert flushes_met([0, 10]) == flushes_met([]) == []


def test_figures_are_saved_after_the_machine_and_the_versions(tmp_path: Path) -> None:
    file = tmp_path / "figures.jsonl"
    done = _ran(_all("--only", "generate", "--save", str(file)))

    assert done.returncode == 0
    machine, *figures = map(json.loads, file.read_text().splitlines())
    assert machine["command"] == "python -m benchmarks --only generate --save figures.jsonl"
    assert machine["cores"] >= 1
    assert machine["packages"]["torch"]
    assert str(tmp_path) not in file.read_text()
    assert {figure["name"] for figure in figures} >= {"generate.events", "generate.ranks"}
    assert "generate.ranks" in done.stdout
    assert "[1/1] generate" in done.stderr


def test_a_benchmark_that_takes_too_long_is_ended_and_named() -> None:
    done = _ran(_all("--only", "reading", "--patience", "0.01"))

    assert done.returncode == 1
    assert "reading: took longer than 0.01 s" in done.stderr


def test_an_unknown_benchmark_is_refused() -> None:
    done = _ran(_all("--only", "reading,wrting"))

    assert done.returncode == 2
    assert "wrting" in done.stderr


def test_after_ctrl_c_there_are_tables_and_no_processes(tmp_path: Path) -> None:
    """`follow` has a launcher, four processes and a dashboard when it is interrupted."""
    command = _all("--only", "follow")
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment() | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    family: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(family) < 4 and time.monotonic() < deadline:
        family = psutil.Process(started.pid).children(recursive=True)
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=120)

    assert started.returncode == 130
    assert "interrupted" in said
    assert not psutil.wait_procs(family, timeout=60)[1]
    assert list(tmp_path.iterdir()) == []


def test_what_has_a_session_of_its_own_ends_as_well() -> None:
    """As torchrun's ranks have, whom a torchrun that is interrupted at its start leaves alone."""
    code = (
        "import subprocess, time\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print('started', flush=True)\n"
        "time.sleep(600)\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "started\n"
    family = psutil.Process(started.pid).children()
    assert len(family) == 1

    bench.end(started)

    assert started.returncode == -signal.SIGINT
    assert not psutil.wait_procs(family, timeout=60)[1]


def test_growth_ends_in_time() -> None:
    done = _ran([sys.executable, "-m", "benchmarks.scale", "--minutes", "0"])

    assert done.returncode == 0
    assert "0 minutes are over" in done.stderr


def test_every_goal_is_that_of_a_figure_that_was_measured() -> None:
    measured = set()
    for file in (ROOT / "docs" / "measurements").glob("*.jsonl"):
        lines = map(json.loads, file.read_text().splitlines())
        measured |= {line["name"] for line in lines if "name" in line}

    assert [like for like in GOALS if not any(re.fullmatch(like, name) for name in measured)] == []


def test_a_goal_is_reached_from_its_side() -> None:
    least, most = goal_of("hta.speedup"), goal_of("disk.bytes_per_event")

    assert least is not None
    assert most is not None
    assert [least.is_reached(value) for value in (19.9, 20, 21)] == [False, True, True]
    assert [most.is_reached(value) for value in (7.9, 8, 8.1)] == [True, True, False]
    assert goal_of("hta.speedup_again") is None
