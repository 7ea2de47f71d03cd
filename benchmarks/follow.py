"""What a dashboard that follows a run costs the training, and how soon it shows a step.

    python -m benchmarks.follow --repeats 4

Four processes train examples/train_pipeline.py (sleep beside a little arithmetic) and record, in
turn alone and with `rankscope dashboard --follow` on the same machine and a client that asks for
every new opening's timeline. `follow.step_ratio` is the mean step with over without, of pairs;
`follow.delay_p95` is the time from a step's end (by its own event) to its appearance in the reply
of the dashboard's server, which a browser asks for two or three times a second. Where other work
runs, `chrt -r 5` for the whole keeps it away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click
import numpy as np

from benchmarks._figures import show
from dashboard import open_run
from tests.support.launching import ROOT, environment

_ASK_EVERY_S = 0.4
_GRACE_S = 20.0
"""torchrun ends its ranks first."""


@click.command()
@click.option("--repeats", default=1, show_default=True, type=click.IntRange(1))
@click.option("--steps", default=60, show_default=True, type=click.IntRange(8))
@click.option("--processes", default=4, show_default=True, type=click.IntRange(2))
def main(repeats: int, steps: int, processes: int) -> None:
    """Print the ratio and the delay."""
    ratios: list[float] = []
    delays: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(repeats):
            times = {}
            # Which comes first alternates, so that a slow phase of the machine hits both.
            for followed in (number % 2 == 0, number % 2 == 1):
                path = Path(directory) / f"{number}-{followed}"
                delays += _record(path, steps, processes, followed=followed)
                times[followed] = _step_ms(path)
            ratios.append(times[True] / times[False])
    show("follow.step_ratio", fmean(ratios), "times", repeats)
    if repeats > 1:
        show("follow.step_ratio_deviation", stdev(ratios), "times", repeats)
    show("follow.delay_median", float(np.median(delays)), "s", len(delays))
    show("follow.delay_p95", float(np.quantile(delays, 0.95)), "s", len(delays))


def _record(path: Path, steps: int, processes: int, *, followed: bool) -> list[float]:
    """Record; of a followed run the delays of its steps, s."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(processes), "-m", "tracer", "--out", str(path),
        str(ROOT / "examples" / "train_pipeline.py"), "--steps", str(steps),
        "--microbatches", "4", "--work-ms", "10",
    ]  # fmt: skip
    training = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    seen: dict[int, float] = {}
    with _ended(training):
        if followed:
            with _dashboard(path) as address:
                while training.poll() is None:
                    _look(address, seen)
                    time.sleep(_ASK_EVERY_S)
        if training.wait():
            raise SystemExit(f"the training ended with {training.returncode}")
    return _delays(path, seen)


@contextmanager
def _dashboard(path: Path) -> Iterator[str]:
    """A dashboard that follows the run; its address."""
    dashboard = "from dashboard.cli import main; main()"
    watched = subprocess.Popen(
        [sys.executable, "-c", dashboard, "dashboard", "--follow", str(path), "--port", "0"],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with _ended(watched):
        assert watched.stdout is not None
        yield watched.stdout.readline().split()[2]


@contextmanager
def _ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """It has ended after the block, however that is left; at Ctrl-C `Popen` itself waits no more
    than a moment.
    """
    with process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _look(address: str, seen: dict[int, float]) -> None:
    """Note the steps that are new in the timeline; as the recorder's clock has it."""
    with urllib.request.urlopen(f"{address}api/timeline/0/lanes") as reply:
        lanes: dict[str, Any] = json.load(reply)
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    for step in lanes["steps"]["number"]:
        seen.setdefault(step, now)


def _delays(path: Path, seen: dict[int, float]) -> list[float]:
    """From the end of a step on the last rank to when it was seen; its start is in raw time."""
    from tracer.streams import read_stream

    ends: dict[int, float] = {}
    for file in path.glob("rank-?????.arrows"):
        for row in read_stream(file, "events").table.to_pylist():
            if row["kind"] == "step":
                end = (row["start"] + row["duration"]) / 1e9
                ends[row["step"]] = max(ends.get(row["step"], 0.0), end)
    return [at - ends[step] for step, at in seen.items() if step in ends]


def _step_ms(path: Path) -> float:
    """The mean step, without the first, which warms up, and the last, in which ranks end."""
    run = open_run(path)
    windows = run.accounting(run.steps[1:-1]).windows
    return float(np.mean(windows["duration"].to_numpy())) / 1e6


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
