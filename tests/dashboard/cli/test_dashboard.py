"""`rankscope dashboard` as a user starts it: a real process, a real request, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.toy import Event, write_run
from tracer.schema import events_file

COMMAND = [sys.executable, "-c", "from dashboard.cli import main; main()", "dashboard"]
STEP = Event(start=0, duration=100, kind="step", name="step")


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address that it printed."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, line + process.stdout.read()
        yield process, address[0]
    finally:
        process.kill()
        process.wait()


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=20) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_serves_until_ctrl_c_and_ends_cleanly(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {0: [STEP]})
    with serving(str(run), "--port", "0") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert status(address) == 200
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 0
        assert "Traceback" not in rest


def test_another_host_needs_the_printed_token(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {0: [STEP]})
    with serving(str(run), "--port", "0", "--host", "127.0.0.2") as (_, address):
        bare = address.partition("?")[0]
        assert "?token=" in address
        assert status(bare) == 401
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert opener.open(address, timeout=20).status == 200


@pytest.mark.parametrize("damage", ["missing", "not a run"])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run"
    if damage == "not a run":
        path.mkdir()
    done = run_command(str(path))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(path) in done.stderr


def test_a_port_in_use_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {0: [STEP]})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_command(str(run), "--port", port)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port 0" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_that_is_partly_damaged_is_served(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {0: [STEP], 1: [STEP]})
    (run / events_file(1)).write_bytes(b"no longer Arrow")
    with serving(str(run), "--port", "0") as (_, address):
        assert status(address) == 200
