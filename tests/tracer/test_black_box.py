"""The black box: what it holds, when it writes, and that nothing else changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.launching import TIMEOUT_S, environment, run_python
from tests.support.reading import facts, rows
from tracer import Tracer, UsageError
from tracer.black_box import BlackBox, Watch
from tracer.recorder import Recorder
from tracer.rings import RECORD_DTYPE
from tracer.schema import Kind


def _train(t: Tracer, steps: int, slow: int = -1) -> None:
    for step in range(steps):
        with t.span("work"):
            time.sleep(0.3 if step == slow else 0.0)
        t.step()


def _steps(run: Path) -> list[int]:
    return [row["step"] for row in rows(run, 0, kind="step")]


def _marks(run: Path) -> list[str]:
    return [row["name"] for row in rows(run, 0, kind="marker")]


def test_when_nothing_happens_nothing_is_written(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[], keep_last=5, flush_interval_s=0.01) as t:
        _train(t, 200)

    assert rows(tmp_path / "run", 0) == []
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert facts(tmp_path / "run", 0)["keep_last"] == 5


def test_a_call_writes_the_last_steps_and_no_more(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[], keep_last=5) as t:
        _train(t, 20)
        with t.span("under way"):
            pass
        t.dump("look here")

    assert _steps(tmp_path / "run") == [15, 16, 17, 18, 19]
    held = rows(tmp_path / "run", 0)
    assert {row["step"] for row in held if row["name"] == "work"} == {15, 16, 17, 18, 19}
    assert [row["step"] for row in held if row["name"] == "under way"] == [20]
    assert _marks(tmp_path / "run") == ["black box: look here"]


def test_a_slow_step_is_written_with_those_before_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[], keep_last=4, slow_step_s=0.2, flush_interval_s=0.02) as t:
        _train(t, 10, slow=9)
        while not _marks(run):
            time.sleep(0.01)
        _train(t, 10)

    assert _steps(run) == [6, 7, 8, 9]
    (mark,) = _marks(run)
    assert mark.startswith("black box: slow step 9 (0.3")


def test_a_slow_step_at_the_end_is_written_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[], keep_last=4, slow_step_s=0.2, flush_interval_s=60) as t:
        _train(t, 10, slow=9)

    assert _steps(run) == [6, 7, 8, 9]


def test_each_incident_is_written_once_with_what_came_since_the_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[], keep_last=3, flush_interval_s=0.01) as t:
        for number in range(2):
            _train(t, 10)
            t.dump(f"incident {number}")
            while len(_marks(run)) <= number:
                time.sleep(0.01)

    assert _marks(run) == ["black box: incident 0", "black box: incident 1"]
    assert _steps(run) == [7, 8, 9, 17, 18, 19]


def test_what_is_asked_while_a_flush_drains_gets_the_steps_before_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    drained, recorded = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        drained.set()
        recorded.wait(TIMEOUT_S)

    with Tracer(run, collectors=[], keep_last=3, flush_interval_s=0.01) as t:
        t.recorder.on_records.append(wait)
        _train(t, 10)
        assert drained.wait(TIMEOUT_S)
        before = t.recorder.step
        _train(t, 2)
        t.dump("now")
        recorded.set()
        while not _marks(run):
            time.sleep(0.01)

    assert _steps(run) == [before - 1, before, before + 1]


@pytest.mark.parametrize(
    ("error", "written"),
    [
        (ZeroDivisionError("x"), ["black box: exception ZeroDivisionError"]),
        (KeyboardInterrupt(), ["black box: exception KeyboardInterrupt"]),
        (SystemExit(3), ["black box: exception SystemExit"]),
        (SystemExit(0), []),
        (SystemExit(), []),
    ],
)
def test_an_exception_that_leaves_the_block(
    tmp_path: Path, error: BaseException, written: list[str]
) -> None:
    def train() -> None:
        with Tracer(tmp_path / "run", collectors=[], keep_last=3) as t:
            _train(t, 10)
            raise error

    with pytest.raises(type(error)):
        train()

    assert _marks(tmp_path / "run") == written
    assert _steps(tmp_path / "run") == ([7, 8, 9] if written else [])


def test_an_exception_that_nobody_catches_and_no_block(tmp_path: Path) -> None:
    script = (
        "import sys; from tracer import Tracer; t = Tracer(sys.argv[1], collectors=[], keep_last=3)"
        "\nt.start(); t.step(); raise ValueError('x')"
    )
    run_python("-c", script, tmp_path / "run", expect=1)

    assert _marks(tmp_path / "run") == ["black box: exception ValueError"]
    assert _steps(tmp_path / "run") == [0]


def test_memory_is_bounded_by_steps_and_by_bytes() -> None:
    def step(number: int, events: int) -> np.ndarray:
        made = np.zeros(events, RECORD_DTYPE)
        made["step"], made["kind"] = number, int(Kind.USER)
        made["kind"][-1] = int(Kind.STEP)
        return made

    watch = Watch(keep_last=10, slow_step_s=None, hang_s=60)
    box = BlackBox(Recorder(), watch)
    for number in range(1000):
        box.keep(step(number, 100))
    assert box.held_bytes == 10 * 100 * RECORD_DTYPE.itemsize

    small = BlackBox(Recorder(), watch, most_bytes=1 << 20)
    for number in range(1000):
        small.keep(step(number, 3000))
    assert small.held_bytes <= 1 << 20
    released, _ = small.release("full")
    assert {int(n) for r in released[:-1] for n in r["step"]} == {997, 998, 999}
    assert small.held_bytes == 0


def test_fewer_steps_than_asked_for_are_said(tmp_path: Path) -> None:
    recorder = Recorder()
    box = BlackBox(recorder, Watch(keep_last=2, slow_step_s=None, hang_s=60), most_bytes=100)
    box.keep(np.zeros(10, RECORD_DTYPE))
    box.release("why")

    assert recorder.names.words == ["black box: why; fewer steps than asked for: 0 MB reached"]


def test_late_records_of_steps_that_are_gone_are_gone_too() -> None:
    box = BlackBox(Recorder(), Watch(keep_last=2, slow_step_s=None, hang_s=60))
    ends = np.zeros(5, RECORD_DTYPE)
    ends["step"], ends["kind"] = range(5), int(Kind.STEP)
    box.keep(ends)
    late = np.zeros(2, RECORD_DTYPE)
    late["step"], late["kind"] = [1, 4], int(Kind.KERNEL)
    box.keep(late)
    released, _ = box.release("why")
    kernels = [int(n) for r in released for n in r["step"][r["kind"] == int(Kind.KERNEL)]]

    assert kernels == [4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_last": 0}, "keep_last is 0, wanted more than 0"),
        ({"keep_last": 2.5}, "keep_last is 2.5, wanted a whole number"),
        ({"keep_last": 5, "slow_step_s": -1}, "slow_step_s is -1, wanted more than 0"),
        ({"keep_last": 5, "hang_s": 0}, "hang_s is 0, wanted more than 0"),
        ({"hang_s": 5}, "give keep_last too"),
        ({"slow_step_s": 5}, "give keep_last too"),
    ],
)
def test_arguments_that_make_no_sense(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Tracer(tmp_path / "run", **arguments)


def test_the_environment_can_ask_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKSCOPE_KEEP_LAST", "3")
    monkeypatch.setenv("RANKSCOPE_SLOW_STEP_S", "0.2")
    with Tracer(tmp_path / "run", collectors=[], flush_interval_s=0.02) as t:
        _train(t, 8, slow=7)
        while not _marks(tmp_path / "run"):
            time.sleep(0.01)

    assert _steps(tmp_path / "run") == [5, 6, 7]
    monkeypatch.setenv("RANKSCOPE_HANG_S", "soon")
    with pytest.raises(UsageError, match="RANKSCOPE_HANG_S is 'soon'"):
        Tracer(tmp_path / "b", collectors=[])


def test_the_launcher_can_ask_for_it(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("raise ValueError('x')")
    launch = ("-m", "tracer", "--out", tmp_path / "run", "--keep-last", "3", "--hang", "9")
    run_python(*launch, script, expect=1)

    assert _marks(tmp_path / "run") == ["black box: exception ValueError"]


def test_a_hang_is_written_once_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def where_it_hangs() -> None:
        while len(_marks(run)) < 1:
            time.sleep(0.02)
        time.sleep(0.5)

    with Tracer(run, collectors=[], keep_last=3, hang_s=0.2, flush_interval_s=0.02) as t:
        _train(t, 10)
        where_it_hangs()

    assert _marks(run) == ["black box: no progress for 0.2 s"]
    assert _steps(run) == [7, 8, 9]
    assert "in where_it_hangs" in (run / "rank-00000.stacks.txt").read_text()
    said = capsys.readouterr().err
    assert said.count("rankscope:") == 1
    assert "rank 0: no progress for 0.2 s; it is outside any communication" in said


def test_what_is_paused_does_not_hang(tmp_path: Path) -> None:
    with Tracer(
        tmp_path / "run", collectors=[], keep_last=3, hang_s=0.1, flush_interval_s=0.02
    ) as t:
        _train(t, 5)
        with t.pause():
            time.sleep(0.5)

    assert _marks(tmp_path / "run") == []


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
    assert _marks(tmp_path / "run") == ["black box: signal SIGTERM"]
    assert _steps(tmp_path / "run") == [7, 8, 9]
    assert facts(tmp_path / "run", 0)["ended"] is None


def test_sigusr1_writes_and_the_training_goes_on(tmp_path: Path) -> None:
    work = """
    from pathlib import Path
    while b"SIGUSR1" not in Path(sys.argv[1], "rank-00000.arrows").read_bytes():
        sum(range(1000))"""
    ended = _signalled(tmp_path / "run", _LOOP.format(before="", work=work), signal.SIGUSR1)

    assert ended == 0
    assert _marks(tmp_path / "run") == ["black box: signal SIGUSR1"]


def test_a_handler_of_the_user_stays_and_decides(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))"
    work = "while True: time.sleep(0.1)"
    ended = _signalled(tmp_path / "run", _LOOP.format(before=before, work=work), signal.SIGTERM)

    assert ended == 42
    assert "SIGTERM" in _marks(tmp_path / "run")[0] or "SystemExit" in _marks(tmp_path / "run")[0]


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
    assert _marks(tmp_path / "run") == []


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
    assert _marks(tmp_path / "b") == ["black box: still works"]


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
