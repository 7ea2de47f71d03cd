"""Two hosts on one machine: a network and a CLOCK_MONOTONIC for each, made by the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dashboard import open_run
from tests.support.launching import SCRIPTS, TIMEOUT_S, environment

SCRIPT = SCRIPTS / "train_two_hosts.py"
NAMESPACE = f"rankscope-{os.getpid()}"
HERE, THERE = "10.213.77.1", "10.213.77.2"
AHEAD_S = 1000


@pytest.fixture
def interfaces() -> Iterator[tuple[str, str]]:
    """A cable between this network and one of its own; the names of its two ends."""
    ours, theirs = f"rsa{os.getpid() % 100_000}", f"rsb{os.getpid() % 100_000}"
    try:
        _ip("netns", "add", NAMESPACE)
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", NAMESPACE)
        _ip("addr", "add", f"{HERE}/24", "dev", ours)
        _ip("link", "set", ours, "up")
        for words in (["addr", "add", f"{THERE}/24", "dev", theirs], ["link", "set", theirs, "up"]):
            _ip("-n", NAMESPACE, *words)
        yield ours, theirs
    finally:
        for words in (["link", "del", ours], ["netns", "del", NAMESPACE]):
            subprocess.run(["ip", *words], capture_output=True, check=False)


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")


def test_a_host_with_another_clock_and_network_is_aligned(
    tmp_path: Path, interfaces: tuple[str, str]
) -> None:
    """The second host's clock is 1,000 s ahead, to the ns: that is what must be found."""
    there = ["ip", "netns", "exec", NAMESPACE, "unshare", "-T", "--monotonic", str(AHEAD_S), "-f"]
    if subprocess.run([*there, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces here")
    with (
        _rank(0, interfaces[0], [], tmp_path / "run") as first,
        _rank(1, interfaces[1], there, tmp_path / "run") as second,
    ):
        said = [process.communicate(timeout=TIMEOUT_S)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), "\n".join(said)
    run = open_run(tmp_path / "run")

    assert run.facts[1].boot_id == f"{run.facts[0].boot_id}+{AHEAD_S}.0"
    assert run.clock.method == "exchange between hosts"
    assert not run.problems
    times = run.clock.maps[1].times.astype(np.int64)
    off = np.abs(run.clock.maps[1].to_common(times) - times + AHEAD_S * 10**9)
    assert (off <= run.clock.maps[1].bounds + 2).all()
    assert off.max() < 100_000
    assert run.clock.violations == 0
    assert run.clock.checked >= 300


@contextmanager
def _rank(
    rank: int, interface: str, inside: list[str], run: Path
) -> Iterator[subprocess.Popen[str]]:
    launched = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    rendezvous = {"MASTER_ADDR": HERE, "MASTER_PORT": str(20_000 + os.getpid() % 20_000)}
    process = subprocess.Popen(
        [*inside, sys.executable, str(SCRIPT), str(run), "300"],
        env=environment(launched | rendezvous | {"GLOO_SOCKET_IFNAME": interface}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
