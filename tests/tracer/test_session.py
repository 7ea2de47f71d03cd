"""`Tracer`: what it writes, what it refuses, and that it never fails the training."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.launching import environment, run_python
from tests.support.reading import facts, meta, rows
from tracer import Kind, Recorder, Tracer, UsageError
from tracer.schema import events_file
from tracer.streams import read_stream
from tracer.topology import Topology


class _Failing:
    """A collector that fails where it is told to."""

    covers = "nothing"

    def __init__(self, *, install: bool = False, uninstall: bool = False) -> None:
        self._fails = {"install": install, "uninstall": uninstall}
        self.recorder: Recorder | None = None

    def install(self, recorder: Recorder, topology: Topology) -> None:
        self.recorder = recorder
        if self._fails["install"]:
            raise RuntimeError("cannot install")

    def uninstall(self) -> None:
        if self._fails["uninstall"]:
            raise RuntimeError("cannot uninstall")


def test_run_json_is_json_whatever_the_configuration_holds(tmp_path: Path) -> None:
    config = {"clip": math.inf, "loss": [math.nan, -math.inf], "path": Path("a"), "eps": 1e-8}
    with Tracer(tmp_path / "run", collectors=[], config=config):
        pass
    text = (tmp_path / "run" / "run.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["config"] == {
        "clip": "Infinity", "loss": ["NaN", "-Infinity"], "path": "a", "eps": 1e-8,
    }  # fmt: skip


def test_steps_and_spans_reach_the_files(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[], config={"lr": 0.1}) as t:
        with t.span("load", kind=Kind.DATA):
            pass
        t.step()
        with t.span("augment"):
            pass
        t.step()
    seen = [(r["kind"], r["name"], r["step"], r["lane"]) for r in rows(tmp_path / "run", 0)]

    assert sorted(seen, key=lambda row: (row[2], row[0])) == [
        ("data", "load", 0, "host:main"),
        ("step", "step", 0, "host:main"),
        ("step", "step", 1, "host:main"),
        ("user", "augment", 1, "host:main"),
    ]
    assert meta(tmp_path / "run")["config"] == {"lr": 0.1}
    assert meta(tmp_path / "run")["world_size"] == 1
    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert facts(tmp_path / "run", 0)["pid"] == os.getpid()
    assert facts(tmp_path / "run", 0)["run_id"] == meta(tmp_path / "run")["run_id"]


def test_only_the_files_of_the_format_are_left(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[]):
        pass

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "rank-00000.arrows",
        "rank-00000.counters.arrows",
        "rank-00000.json",
        "run.json",
    ]


def test_an_exception_in_the_loop_passes_and_the_files_are_closed(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path / "run", collectors=[])
    with pytest.raises(ZeroDivisionError), tracer as t, t.span("broken"):
        1 / 0  # noqa: B018 - the exception is the point

    assert [row["name"] for row in rows(tmp_path / "run", 0)] == ["broken"]
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


def test_a_second_tracer_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with Tracer(tmp_path / "a", collectors=[]) as first:
        with pytest.raises(UsageError, match=r"recording into .*a already"):
            Tracer(tmp_path / "b", collectors=[]).start()
        first.step()
    with Tracer(tmp_path / "c", collectors=[]) as after:
        after.step()

    assert len(rows(tmp_path / "a", 0, kind="step")) == 1
    assert len(rows(tmp_path / "c", 0, kind="step")) == 1


def test_a_directory_that_holds_a_run_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t:
        t.step()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError, match=r"run: holds a run already.*overwrite=True"):
        Tracer(tmp_path / "run", collectors=[])

    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_overwriting_removes_the_old_run_with_all_its_ranks_and_nothing_else(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[]) as t:
        t.step()
    (run / "rank-00001.arrows").write_bytes(b"of an older run with more ranks")
    (run / "rank-00001.json").write_text("{}")
    (run / "notes.txt").write_text("mine")
    with Tracer(run, collectors=[], overwrite=True):
        pass

    assert rows(run, 0) == []
    assert not (run / "rank-00001.arrows").exists()
    assert not (run / "rank-00001.json").exists()
    assert (run / "notes.txt").read_text() == "mine"


def test_each_attempt_of_an_elastic_launch_has_a_directory_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracer(tmp_path / "run", collectors=[]):
        pass
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with Tracer(tmp_path / "run", collectors=[]) as again:
        again.step()

    assert again.path == tmp_path / "run.restart-1"
    assert len(rows(tmp_path / "run.restart-1", 0)) == 1


_ENDLESS: dict[str, Any] = {}
_ENDLESS["again"] = _ENDLESS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {("a", "b"): 1}}, "config must be a mapping of JSON values"),
        ({"config": _ENDLESS}, "config must be a mapping of JSON values"),
        ({"config": 3}, "config must be a mapping of JSON values"),
        ({"link_peaks": {"tp": math.nan}}, "link_peaks must give GB/s .* finite number"),
        ({"link_peaks": {"tp": -1}}, "link_peaks must give GB/s .* not negative"),
        ({"link_peaks": {"tp": None}}, "link_peaks must give GB/s"),
        ({"flush_interval_s": 0}, "flush_interval_s is 0, wanted more than 0"),
    ],
)
def test_arguments_that_cannot_be_right_are_refused_before_training(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Tracer(tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        Tracer(tmp_path / "file", collectors=[])
    with pytest.raises(UsageError, match="cannot be written to"):
        Tracer(tmp_path / "file" / "run", collectors=[])


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_disabled_is_a_true_no_op(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("RANKSCOPE_DISABLE", "1")
    threads = threading.active_count()
    collector = _Failing(install=True)
    with Tracer(tmp_path / "run", enabled=how == "environment", collectors=[collector]) as t:
        with t.span("nothing"):
            t.step()
        assert threading.active_count() == threads

    assert collector.recorder is None
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["install", "uninstall"])
def test_a_collector_that_fails_ends_the_recording_and_not_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    healthy = _Failing()
    with Tracer(tmp_path / "run", collectors=[healthy, _Failing(**{where: True})]) as t:
        t.step()

    assert facts(tmp_path / "run", 0)["ended"] == f"failed: RuntimeError: cannot {where}"
    assert len(rows(tmp_path / "run", 0)) == (1 if where == "uninstall" else 0)
    assert capsys.readouterr().err.count("rankscope: tracing stopped") == 1


def test_a_fault_in_the_middle_keeps_what_was_recorded_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracer(tmp_path / "run", collectors=[]) as t:
        t.step()
        t.recorder.fault(RuntimeError("broken hook"))
        t.step()

    assert len(rows(tmp_path / "run", 0)) == 1
    assert facts(tmp_path / "run", 0)["ended"] == "failed: RuntimeError: broken hook"
    said = capsys.readouterr().err
    assert f"stopped on rank 0 ({tmp_path / 'run' / events_file(0)}) by" in said
    assert "broken hook" in said
    assert "RANKSCOPE_DISABLE=1" in said


def test_a_run_directory_that_disappears_does_not_reach_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[]) as t:
        t.step()
        for path in run.iterdir():
            path.unlink()
        run.rmdir()
        t.topology.group([0], "mesh_tp")

    assert "rankscope: tracing stopped" in capsys.readouterr().err


def test_a_working_directory_that_changes_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Tracer("run", collectors=[]) as t:
        os.chdir(tmp_path / "elsewhere")
        t.step()

    assert facts(tmp_path / "run", 0)["ended"] == "closed"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_stop_may_be_called_twice_and_by_hand(tmp_path: Path) -> None:
    t = Tracer(tmp_path / "run", collectors=[])
    t.start()
    t.step()
    t.stop()
    t.stop()
    t.step()

    assert len(rows(tmp_path / "run", 0)) == 1


def test_importing_needs_no_torch() -> None:
    run_python("-c", "import sys, tracer; assert 'torch' not in sys.modules; tracer.Tracer")


_KILLED = """
import sys
from tracer import Tracer
t = Tracer(sys.argv[1], collectors=[], flush_interval_s=0.02)
t.start()
print("recording", flush=True)
while True:
    with t.span("work"):
        pass
    t.step()
    if t.recorder.step % 1000 == 0:
        sys.stdin.readline()
"""


def test_a_killed_process_leaves_a_readable_file(tmp_path: Path) -> None:
    """The process waits for a line after 1,000 steps; it gets one once they are in the file."""
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "recording\n"
            while len(_readable_steps(run)) < 1000:
                assert process.poll() is None
            process.stdin.write("\n")
            process.stdin.flush()
        finally:
            process.kill()
    steps = _readable_steps(run)

    assert steps == list(range(len(steps)))
    assert len(steps) >= 1000
    assert facts(run, 0)["ended"] is None
    assert json.loads((run / "run.json").read_text())["format"] == "rankscope"


_FORKING = """
import os, sys
from tracer import Tracer
with Tracer(sys.argv[1], collectors=[]) as t:
    with t.span("parent before"):
        pass
    child = os.fork()
    if child == 0:
        with t.span("child"):
            pass
        t.step()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with t.span("parent after"):
        pass
"""


def test_a_forked_child_does_not_record_and_does_not_touch_the_files(tmp_path: Path) -> None:
    run_python("-c", _FORKING, tmp_path / "run")

    assert [row["name"] for row in rows(tmp_path / "run", 0)] == ["parent before", "parent after"]
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


_EXITING = """
import sys
from tracer import Tracer
t = Tracer(sys.argv[1], collectors=[], flush_interval_s=60)
t.start()
t.step()
sys.exit(7)
"""


def test_a_process_that_exits_without_stopping_still_closes_its_files(tmp_path: Path) -> None:
    run_python("-c", _EXITING, tmp_path / "run", expect=7)

    assert len(rows(tmp_path / "run", 0)) == 1
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


_DISK_FULL = """
import os, resource, sys
from tracer import Tracer
from tracer.streams import read_stream
with Tracer(sys.argv[1], collectors=[], flush_interval_s=0.01) as t:
    events = t.path / "rank-00000.arrows"
    t.step()
    while not read_stream(events, "events").table.num_rows:
        pass
    room = os.path.getsize(events) + 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    while t.recorder.failure is None:
        t.step()
    t.step()
print("trained")
"""


def test_a_full_disk_ends_the_recording_and_not_the_training(tmp_path: Path) -> None:
    done = run_python("-c", _DISK_FULL, tmp_path / "run")
    steps = _readable_steps(tmp_path / "run")

    assert done.stdout == "trained\n"
    assert done.stderr.count("rankscope: tracing stopped") == 1
    assert "File too large" in done.stderr
    assert steps == [0]
    assert facts(tmp_path / "run", 0)["ended"].startswith("failed: OSError")


def _readable_steps(run: Path) -> list[int]:
    """The steps in the file now; its last batch may be half written, as any kill leaves it."""
    events = read_stream(run / "rank-00000.arrows", "events").table.to_pylist()
    return [row["step"] for row in events if row["kind"] == "step"]


def test_what_several_threads_recorded_between_two_flushes_is_all_there(tmp_path: Path) -> None:
    """More than one piece of a ring at once, and rings joined into batches."""
    spans = 9_000
    with Tracer(tmp_path / "run", collectors=[], flush_interval_s=3600) as t:

        def record() -> None:
            for _ in range(spans):
                with t.span("work"):
                    pass

        other = threading.Thread(target=record, name="other")
        other.start()
        other.join()
        record()

    for lane in ("host:main", "host:other"):
        starts = [row["start"] for row in rows(tmp_path / "run", 0, lane=lane, name="work")]
        assert len(set(starts)) == len(starts) == spans
    assert facts(tmp_path / "run", 0)["dropped"] == 0
