"""Signals and the black box: which make it write, and that they do what they did without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.launching import TIMEOUT_S, environment, run_python
from tests.support.reading import facts, marks, steps
from tracer import Tracer

_LOOP = """
import signal, sys, time
from tracer import Tracer
{before}
with Tracer(sys.argv[1], collectors=[], keep_last=3, flush_interval_s=0.02) as t:
    for _ in range(10):
        t.step()
    print("training", flush=True)
    {work}
print("the end", flush=True)
"""

_STUCK = "import ctypes; ctypes.CDLL(None).usleep(100_000_000)"
"""In C, without a Python instruction in between, as a collective that never ends."""

_BUSY = "while not sys.argv[2:]: sum(range(1000))"


@pytest.mark.parametrize("work", [_STUCK, _BUSY], ids=["stuck in C", "computing"])
def test_sigterm_writes_and_ends_the_process_as_ever(tmp_path: Path, work: str) -> None:
    ended = _signalled(tmp_path / "run", _LOOP.format(before="", work=work), signal.SIGTERM)

    assert ended == -signal.SIGTERM
    assert marks(tmp_path / "run") == ["black box: signal SIGTERM"]
    assert steps(tmp_path / "run") == [7, 8, 9]
    assert facts(tmp_path / "run", 0)["ended"] is None


def test_sigusr1_writes_and_the_training_goes_on(tmp_path: Path) -> None:
    work = """
    from pathlib import Path
    while b"SIGUSR1" not in Path(sys.argv[1], "rank-00000.arrows").read_bytes():
        sum(range(1000))"""
    ended = _signalled(tmp_path / "run", _LOOP.format(before="", work=work), signal.SIGUSR1)

    assert ended == 0
    assert marks(tmp_path / "run") == ["black box: signal SIGUSR1"]


def test_a_handler_of_the_user_stays_and_decides(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))"
    work = "while True: time.sleep(0.1)"
    ended = _signalled(tmp_path / "run", _LOOP.format(before=before, work=work), signal.SIGTERM)

    assert ended == 42
    assert "SIGTERM" in marks(tmp_path / "run")[0] or "SystemExit" in marks(tmp_path / "run")[0]


def test_a_worker_that_was_forked_dies_of_sigterm_and_its_parent_does_not(tmp_path: Path) -> None:
    work = """
    import os
    child = os.fork()
    if child == 0:
        while True: time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    time.sleep(0.2)"""
    script = _LOOP.format(before="", work=work)
    done = run_python("-c", script, tmp_path / "run")

    assert done.stdout.endswith("the end\n")
    assert marks(tmp_path / "run") == []


def test_when_the_writer_is_gone_sigterm_still_ends_the_process(tmp_path: Path) -> None:
    work = """
    import tracer.writer as w
    t._parts._writer._hold = None
    while t._parts._writer._thread.is_alive(): time.sleep(0.01)
    print("writer is gone", flush=True)
    time.sleep(100)"""
    script = _LOOP.format(before="", work=work).replace('print("training", flush=True)', "pass")

    assert _signalled(tmp_path / "run", script, signal.SIGTERM) == -signal.SIGTERM


def test_signals_are_as_before_when_it_is_over(tmp_path: Path) -> None:
    watched = (signal.SIGUSR1, signal.SIGTERM)
    before = [signal.getsignal(number) for number in watched]
    with Tracer(tmp_path / "run", collectors=[], keep_last=3):
        during = [signal.getsignal(number) for number in watched]
    after = [signal.getsignal(number) for number in watched]
    listening = signal.set_wakeup_fd(-1)

    assert after == before
    assert during != before
    assert listening == -1


def test_who_listens_to_signals_already_is_left_alone(tmp_path: Path) -> None:
    """An asyncio loop has the descriptor; a tracer on another thread than the main one cannot."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    try:
        with Tracer(tmp_path / "a", collectors=[], keep_last=3):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        assert signal.set_wakeup_fd(-1) == write
        os.close(read)
        os.close(write)

    def on_a_thread() -> None:
        with Tracer(tmp_path / "b", collectors=[], keep_last=3) as t:
            t.dump("still works")

    thread = threading.Thread(target=on_a_thread)
    thread.start()
    thread.join()
    assert marks(tmp_path / "b") == ["black box: still works"]


def _signalled(run: Path, script: str, number: int) -> int:
    """Start the script, send the signal at its first line of output; how it ended."""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline()
            process.send_signal(number)
            return process.wait(TIMEOUT_S)
        finally:
            process.kill()
