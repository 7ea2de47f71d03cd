"""The black box: what it holds, when it writes, and that nothing else changes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.launching import TIMEOUT_S, run_python
from tests.support.reading import facts, marks, rows, steps
from tracer import Tracer, UsageError
from tracer.black_box import BlackBox, Watch
from tracer.recorder import Recorder
from tracer.rings import RECORD_DTYPE
from tracer.schema import Kind

SLOW_S = 1.1
"""Longer than a step takes that waits for a busy machine."""


def _train(t: Tracer, steps: int, slow: int = -1) -> None:
    for step in range(steps):
        with t.span("work"):
            time.sleep(SLOW_S if step == slow else 0.0)
        t.step()


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

    assert steps(tmp_path / "run") == [15, 16, 17, 18, 19]
    held = rows(tmp_path / "run", 0)
    assert {row["step"] for row in held if row["name"] == "work"} == {15, 16, 17, 18, 19}
    assert [row["step"] for row in held if row["name"] == "under way"] == [20]
    assert marks(tmp_path / "run") == ["black box: look here"]


def test_a_slow_step_is_written_with_those_before_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[], keep_last=4, slow_step_s=1, flush_interval_s=0.02) as t:
        _train(t, 10, slow=9)
        with t.pause():
            while not marks(run):
                time.sleep(0.01)
        _train(t, 10)

    assert steps(run) == [6, 7, 8, 9]
    (mark,) = marks(run)
    assert mark.startswith("black box: slow step 9 (")


def test_a_slow_step_at_the_end_is_written_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[], keep_last=4, slow_step_s=1, flush_interval_s=60) as t:
        _train(t, 10, slow=9)

    assert steps(run) == [6, 7, 8, 9]


def test_each_incident_is_written_once_with_what_came_since_the_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[], keep_last=3, flush_interval_s=0.01) as t:
        for number in range(2):
            _train(t, 10)
            t.dump(f"incident {number}")
            while len(marks(run)) <= number:
                time.sleep(0.01)

    assert marks(run) == ["black box: incident 0", "black box: incident 1"]
    assert steps(run) == [7, 8, 9, 17, 18, 19]


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
        while not marks(run):
            time.sleep(0.01)

    assert steps(run) == [before - 1, before, before + 1]


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

    assert marks(tmp_path / "run") == written
    assert steps(tmp_path / "run") == ([7, 8, 9] if written else [])


def test_an_exception_that_nobody_catches_and_no_block(tmp_path: Path) -> None:
    script = (
        "import sys; from tracer import Tracer; t = Tracer(sys.argv[1], collectors=[], keep_last=3)"
        "\nt.start(); t.step(); raise ValueError('x')"
    )
    run_python("-c", script, tmp_path / "run", expect=1)

    assert marks(tmp_path / "run") == ["black box: exception ValueError"]
    assert steps(tmp_path / "run") == [0]


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
    monkeypatch.setenv("RANKSCOPE_SLOW_STEP_S", "1")
    with Tracer(tmp_path / "run", collectors=[], flush_interval_s=0.02) as t:
        _train(t, 8, slow=7)
        while not marks(tmp_path / "run"):
            time.sleep(0.01)

    assert steps(tmp_path / "run") == [5, 6, 7]
    monkeypatch.setenv("RANKSCOPE_HANG_S", "soon")
    with pytest.raises(UsageError, match="RANKSCOPE_HANG_S is 'soon'"):
        Tracer(tmp_path / "b", collectors=[])


def test_the_launcher_can_ask_for_it(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("raise ValueError('x')")
    launch = ("-m", "tracer", "--out", tmp_path / "run", "--keep-last", "3", "--hang", "9")
    run_python(*launch, script, expect=1)

    assert marks(tmp_path / "run") == ["black box: exception ValueError"]


def test_a_hang_is_written_once_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def where_it_hangs() -> None:
        while len(marks(run)) < 1:
            time.sleep(0.02)
        time.sleep(0.5)

    with Tracer(run, collectors=[], keep_last=3, hang_s=0.2, flush_interval_s=0.02) as t:
        _train(t, 10)
        where_it_hangs()

    assert marks(run) == ["black box: no progress for 0.2 s"]
    assert steps(run) == [7, 8, 9]
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

    assert marks(tmp_path / "run") == []
