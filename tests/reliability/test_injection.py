"""Whatever fails inside the tracer, the training goes on as if there were none."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch.distributed", reason="needs torch")

import torch
import torch.distributed as dist

from collectors.live.operations import Operations
from tests.reliability import injection
from tests.reliability.targets import Fault, targets
from tests.support.reading import facts, rows
from tracer import Kind, Recorder, Tracer, recorder
from tracer.spans import Spans
from tracer.topology import Topology


@pytest.mark.distributed
def test_every_part_fails_in_turn_and_the_training_never_notices(tmp_path: Path) -> None:
    """One part in twenty, since all take many minutes; which ones never changes by itself."""
    report = injection.inject(tmp_path, every=20, say=False)

    assert report.broken == {}
    assert len(report.fired) > 15, "few parts were reached, so that little was tried"
    assert len(report.fired) > len(report.not_fired)  # of all parts three in four


def test_a_target_fails_at_its_call_and_is_sound_again_afterwards() -> None:
    """The counterpart: were nothing made to fail, the matrix above would prove nothing."""
    (target,) = [t for t in targets() if t.name == "tracer.topology:compress"]
    fault = Fault(2, OSError)
    from tracer.topology import compress

    undo = target.install(fault)
    assert compress([0, 1]) == "0-1"
    with pytest.raises(OSError, match="injected"):
        compress([0, 1])
    undo()

    assert (fault.fired, fault.calls) == (True, 2)
    assert compress([0, 1]) == "0-1"
    assert fault.calls == 2


@pytest.mark.parametrize("part", ["tracer.recorder.word_array", "tracer.arrays.pa.string"])
def test_a_tracer_is_made_even_where_arrow_fails(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Making one is a call of the user's, with nothing of ours around it: it needs no Arrow."""

    def fails(*arguments: object) -> None:
        raise MemoryError("injected")

    monkeypatch.setattr(part, fails)
    with Tracer(tmp_path / "run") as tracer:
        tracer.step()
    assert capsys.readouterr().err.count("injected") == 1


class _Clock:
    """Fails from a given reading on."""

    def __init__(self, sound: int) -> None:
        self._readings = itertools.count()
        self._sound = sound

    def __call__(self) -> int:
        reading = next(self._readings)
        if reading >= self._sound:
            raise OSError("no clock")
        return reading


@pytest.mark.parametrize("sound", [0, 1])
def test_a_span_with_a_clock_that_fails_runs_its_block_once(sound: int) -> None:
    """At its begin or at its end."""
    made = Recorder(clock=_Clock(sound))
    made.active = True
    done = []
    spans = Spans(made)
    with spans.span(Kind.USER, "augment"):
        done.append("block")

    @spans.span(Kind.USER, "halve")
    def halve(value: int) -> float:
        return value / 2

    assert halve(3) == 1.5
    assert done == ["block"]
    assert made.failure == "OSError: no clock"


def test_an_error_of_the_users_block_is_not_mixed_with_ours() -> None:
    made = Recorder(clock=_Clock(1))
    made.active = True
    with pytest.raises(KeyError) as raised, Spans(made).span(Kind.USER, "augment"):
        raise KeyError("the user's own")

    assert raised.value.__context__ is None
    assert made.failure == "OSError: no clock"


def _fails(*unused: Any, **also: Any) -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize("part", ["span", "count", "turn"])
def test_what_a_user_calls_does_not_raise(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t:
        with t.span("before"):
            pass
        monkeypatch.setattr(Spans if part == "span" else Recorder, part, _fails)
        with t.pause(), t.span("evaluation"):
            pass
        decorated = t.span(abs)
        t.counter("loss", 1.0)
        t.step()

    assert decorated(-1) == 1
    assert t.recorder.failure == "RuntimeError: broken"
    assert [row["name"] for row in rows(tmp_path / "run", 0, kind="user")] == ["before"]


@pytest.mark.parametrize("sound", [0, 1, 2, 3])
def test_a_hook_with_a_clock_that_fails_calls_the_original_once(tmp_path: Path, sound: int) -> None:
    """At the begin and the end of a collective, and of its wait."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with Tracer(tmp_path / "run", overwrite=True) as bare:
            pass
        t = Tracer(tmp_path / "run", overwrite=True)
        clock = t.recorder.clock = _Clock(1 << 60)
        with t:
            clock._sound = next(clock._readings) + 1 + sound
            tensor = torch.ones(2)
            work = dist.all_reduce(tensor, async_op=True)
            waited = work.wait()
    finally:
        dist.destroy_process_group()

    assert bare.recorder.failure is None
    assert t.recorder.failure == "OSError: no clock"
    assert waited is True
    assert tensor.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("part", ["merge", "merged"])
def test_an_object_collective_whose_hook_fails_gives_its_objects(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with Tracer(tmp_path / "run") as t:
            monkeypatch.setattr(Operations, part, _fails)
            found: list[Any] = [None]
            dist.all_gather_object(found, {"loss": 1.0})
    finally:
        dist.destroy_process_group()

    assert found == [{"loss": 1.0}]
    assert t.recorder.failure == "RuntimeError: broken"


def test_an_error_of_the_users_call_is_not_mixed_with_ours(tmp_path: Path) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    group = dist.distributed_c10d._get_default_group()
    try:
        t = Tracer(tmp_path / "run")
        clock = t.recorder.clock = _Clock(1 << 60)
        with t:
            clock._sound = 0
            with pytest.raises(TypeError) as raised:
                group.broadcast("no tensor")  # type: ignore[arg-type]
    finally:
        dist.destroy_process_group()

    assert raised.value.__context__ is None
    assert t.recorder.failure == "OSError: no clock"


class _Stubborn:
    """A collector whose hook comes out at the second try."""

    covers = "nothing"

    def __init__(self) -> None:
        self.tries = 0

    def install(self, recorder: Recorder, topology: Topology) -> None: ...

    def uninstall(self) -> None:
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("not yet")


def test_a_hook_that_does_not_come_out_is_tried_again_and_the_others_come_out(
    tmp_path: Path,
) -> None:
    one, another = _Stubborn(), _Stubborn()
    with Tracer(tmp_path / "run", collectors=[one, another]):
        pass

    assert (one.tries, another.tries) == (2, 2)
    assert facts(tmp_path / "run", 0)["ended"] == "failed: RuntimeError: not yet"


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_that_cannot_be_told_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    made = Recorder()
    made.active = True
    made.fault(_Unspeakable())

    assert (made.active, made.failure) == (False, "_Unspeakable")


def test_a_warning_that_fails_is_no_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "warn", _fails)
    made = Recorder()
    made.active = True
    made.fault(OSError("no space"))

    assert (made.active, made.failure) == (False, "OSError")


def test_faults_of_many_threads_at_once_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    made = Recorder()
    ready = threading.Barrier(8)

    def fail(number: int) -> None:
        ready.wait()
        made.fault(OSError(str(number)))

    threads = [threading.Thread(target=fail, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert capsys.readouterr().err.count("rankscope:") == 1


def test_a_launcher_that_gives_no_number_costs_the_recording_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "first")
    with Tracer(tmp_path / "run", collectors=[]) as t, t.span("work"):
        t.step()

    assert not t.enabled
    assert "invalid literal for int() with base 10: 'first'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_recording_that_cannot_begin_says_so_in_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that would write them never ran."""
    monkeypatch.setattr(threading.Thread, "start", _fails)
    with Tracer(tmp_path / "run", collectors=[]) as t, t.span("work"):
        t.step()

    assert facts(tmp_path / "run", 0)["ended"] == "failed: RuntimeError: broken"
    assert rows(tmp_path / "run", 0) == []
