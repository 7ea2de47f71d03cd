"""A real Dask scheduler and real worker processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.test_repo.markdown import ROOT

_PATIENCE_S = 60


@dataclass
class Cluster:
    """The scheduler's address, and the workers that were started."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kill_one(self) -> None:
        """SIGKILL to a worker that lives."""
        victim = next(worker for worker in self.workers if worker.poll() is None)
        victim.send_signal(signal.SIGKILL)
        victim.wait(_PATIENCE_S)

    def kill_scheduler(self) -> None:
        """SIGKILL to the scheduler."""
        self.scheduler.kill()
        self.scheduler.wait(_PATIENCE_S)

    def await_idle(self) -> None:
        """Wait until all tasks that it has are done."""
        self._until(lambda states, workers: set(states) <= {"memory", "released"})

    def await_tidings(self) -> None:
        """Wait until the scheduler knows of the killed, and its clients too, as good as surely."""
        self._until(lambda states, workers: workers == self.alive)
        time.sleep(0.2)

    def drop_tasks(self) -> None:
        """Have the scheduler cancel all tasks, as if it had never heard of them."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.run_on_scheduler(_cancel_all)

    def _until(self, reached: Callable[[Mapping[str, int], int], bool]) -> None:
        from distributed import Client

        until = time.monotonic() + _PATIENCE_S
        with Client(self.address, set_as_default=False) as client:
            while not reached(*client.run_on_scheduler(_states)):
                assert time.monotonic() < until
                time.sleep(0.02)

    @property
    def alive(self) -> int:
        """How many workers have not been killed."""
        return sum(worker.poll() is None for worker in self.workers)


def _states(dask_scheduler: Any) -> tuple[Counter[str], int]:
    """Tasks by state, and how many workers there are."""
    states = Counter(task.state for task in dask_scheduler.tasks.values())
    return states, len(dask_scheduler.workers)


def _cancel_all(dask_scheduler: Any) -> None:
    for name, client in dask_scheduler.clients.items():
        keys = [task.key for task in client.wants_what]
        dask_scheduler.client_releases_keys(keys=keys, client=name)
        dask_scheduler.report({"op": "cancelled-keys", "keys": keys}, client=name)


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
        running = Cluster(address="", scheduler=scheduler)
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
