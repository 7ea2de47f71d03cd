"""A real Dask scheduler and real worker processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.test_repo.markdown import ROOT

_PATIENCE_S = 60


@dataclass
class Cluster:
    """The scheduler's address, and the workers that were started."""

    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kill_one(self) -> None:
        """SIGKILL to a worker that lives."""
        victim = next(worker for worker in self.workers if worker.poll() is None)
        victim.send_signal(signal.SIGKILL)
        victim.wait(_PATIENCE_S)

    @property
    def alive(self) -> int:
        """How many workers have not been killed."""
        return sum(worker.poll() is None for worker in self.workers)


@contextmanager
def dask_cluster(
    directory: Path, workers: int, environment: Mapping[str, str]
) -> Iterator[Cluster]:
    """Serve until the end of the block. `directory` is for its files and logs."""
    meeting = directory / "scheduler.json"
    everything = dict(os.environ) | {"PYTHONPATH": str(ROOT)} | dict(environment)
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        log = (directory / f"{arguments[0]}-{len(started)}.log").open("wb")
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1"],
                cwd=directory,
                env=everything,
                stdout=log,
                stderr=log,
            )
        )
        log.close()
        return started[-1]

    try:
        scheduler = start(
            "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(meeting)
        )
        running = Cluster(address="")
        for _ in range(workers):
            running.workers.append(
                start(
                    "worker",
                    *("--scheduler-file", str(meeting), "--no-nanny", "--no-dashboard"),
                    *("--nthreads", "1", "--local-directory", str(directory)),
                )
            )
        running.address = _address(meeting, scheduler)
        _await_workers(running.address, workers)
        yield running
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait(_PATIENCE_S)


def _address(meeting: Path, scheduler: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and scheduler.poll() is None:
        try:
            return str(json.loads(meeting.read_text())["address"])
        except (FileNotFoundError, ValueError):
            time.sleep(0.05)
    raise AssertionError("the scheduler did not start")


def _await_workers(address: str, workers: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=_PATIENCE_S)
