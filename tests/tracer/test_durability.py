"""However a process ends, and whatever becomes of its disk: what was recorded is kept, and the
training goes on to its own end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.disks import fill, read_only, small_disk
from tests.support.launching import environment, run_python
from tests.support.reading import facts, rows
from tracer import Tracer
from tracer.directory import claim
from tracer.run_files import RankFacts, read_rank_facts, write_rank_facts
from tracer.schema import events_file
from tracer.streams import read_stream

_WARNING = "rankscope: tracing stopped"

_TERMINATED = """
import signal, sys
from tracer import Tracer
if sys.argv[2] == "handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
with Tracer(sys.argv[1], collectors=[], flush_interval_s=0.02) as t:
    for _ in range(1000):
        t.step()
    print("trained", flush=True)
    signal.pause()
"""


@pytest.mark.parametrize(
    ("disposition", "code", "ended"),
    [("default", -signal.SIGTERM, None), ("handled", 5, "closed")],
)
def test_sigterm_ends_the_process_as_without_us(
    tmp_path: Path, disposition: str, code: int, ended: str | None
) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _TERMINATED, str(run), disposition],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        while len(_steps(run)) < 1000:
            assert process.poll() is None
        process.terminate()

    assert process.returncode == code
    assert _steps(run) == list(range(1000))
    assert facts(run, 0)["ended"] == ended


_GONE_AT_ONCE = """
import os, sys
from tracer import Tracer
from tracer.streams import read_stream
with Tracer(sys.argv[1], collectors=[], flush_interval_s=0.02) as t:
    for _ in range(10):
        t.step()
    while read_stream(t.path / "rank-00000.arrows", "events").table.num_rows < 10:
        pass
    os._exit(3)
"""


_REPLACES_ITSELF = """
import os, sys
from tracer import Tracer
t = Tracer(sys.argv[1], collectors=[], flush_interval_s=0.02)
t.start()
t.step()
while not (t.path / "rank-00000.arrows").stat().st_size: pass
os.execv("/bin/ls", ["ls", "-l", "/proc/self/fd"])
"""


def test_what_a_training_becomes_by_exec_has_no_file_of_ours(tmp_path: Path) -> None:
    done = run_python("-c", _REPLACES_ITSELF, tmp_path / "run", preloaded=True)
    assert "/fd" in done.stdout, "it lists what it has"
    assert str(tmp_path) not in done.stdout


def test_os_exit_leaves_what_was_flushed(tmp_path: Path) -> None:
    run_python("-c", _GONE_AT_ONCE, tmp_path / "run", expect=3)

    assert _steps(tmp_path / "run") == list(range(10))
    assert facts(tmp_path / "run", 0)["ended"] is None


_ONE_RANK_RAISES = """
import sys
from datetime import timedelta
import torch, torch.distributed as dist
from tracer import Tracer
dist.init_process_group("gloo", timeout=timedelta(seconds=30))
with Tracer(sys.argv[1]) as t:
    for step in range(5):
        if step == 3 and dist.get_rank() == 1:
            raise ValueError("a bad batch")
        dist.all_reduce(torch.ones(4))
        t.step()
"""


@pytest.mark.distributed
def test_an_exception_on_one_rank_closes_the_files_of_both(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_RANK_RAISES, str(tmp_path / "run")],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(both | {"RANK": str(rank)}),
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=100)[1] for process in processes]

    assert [process.returncode for process in processes] == [1, 1]
    assert "ValueError: a bad batch" in said[1]
    for rank in (0, 1):
        assert "rankscope" not in said[rank]
        assert _steps(tmp_path / "run", rank) == [0, 1, 2]
        assert facts(tmp_path / "run", rank)["ended"] == "closed"


_SHUTDOWN = """
import atexit, sys, threading
from tracer import Tracer
def emit(name):
    with t.span(name):
        pass
main_is_over = threading.Event()
def go_on():
    main_is_over.wait()
    for _ in range(100):
        emit("thread")
atexit.register(lambda: emit("registered before"))
t = Tracer(sys.argv[1], collectors=[], flush_interval_s=60)
t.start()
atexit.register(lambda: emit("registered after"))
threading.Thread(target=go_on).start()
emit("main")
main_is_over.set()
"""


def test_threads_and_handlers_that_outlive_the_main_thread_are_recorded(tmp_path: Path) -> None:
    """Python waits for its threads, then calls the handlers, the last one registered first: only
    the one that was there before the tracer comes too late, and nothing minds.
    """
    done = run_python("-c", _SHUTDOWN, tmp_path / "run")
    names = [row["name"] for row in rows(tmp_path / "run", 0)]

    assert sorted(names) == ["main", "registered after", *["thread"] * 100]
    assert done.stderr == ""
    assert facts(tmp_path / "run", 0)["ended"] == "closed"


_DISK_FILLS_UP = """
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tests.support.disks import fill
from tracer import Tracer
disk = Path(sys.argv[1])
filler = fill(disk, leave=128 << 10)
with Tracer(disk / "run", collectors=[], flush_interval_s=0.01) as t:
    while t.recorder.failure is None:
        t.step()
    t.step()
    while "rankscope-writer" in [thread.name for thread in threading.enumerate()]:
        with suppress(OSError), open(disk / "more", "ab", buffering=0) as more:
            more.write(bytes(4096))  # no room to say that it failed, until the training goes on
    filler.unlink()
    for _ in range(100):
        t.step()
print("trained")
"""


def test_a_disk_that_fills_up_keeps_all_before_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        done = run_python("-c", _DISK_FILLS_UP, disk)
        stream = read_stream(disk / "run" / "rank-00000.arrows", "events")
        steps = _steps(disk / "run")
        ended = facts(disk / "run", 0)["ended"]
        left = sorted(path.name for path in (disk / "run").iterdir())

    assert done.stdout == "trained\n"
    assert done.stderr.count(_WARNING) == 1
    assert "No space left on device" in done.stderr
    assert stream.problem is None
    assert len(steps) > 1000
    assert steps == list(range(len(steps)))
    assert ended.startswith("failed: OSError")
    assert not [name for name in left if name.startswith(".")]


_FULL_BEFORE_THE_FIRST_WRITE = """
import sys
from pathlib import Path
from tests.support.disks import fill
from tracer import Tracer
disk = Path(sys.argv[1])
t = Tracer(disk / "run", collectors=[])
fill(disk)
with t:
    for _ in range(100):
        t.step()
print("trained")
"""


def test_a_disk_that_is_full_before_the_first_write_ends_the_recording_alone(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        done = run_python("-c", _FULL_BEFORE_THE_FIRST_WRITE, disk)
        left = sorted(path.name for path in (disk / "run").iterdir())

    assert done.stdout == "trained\n"
    assert done.stderr.count("rankscope") == 1
    assert _WARNING in done.stderr
    assert not [name for name in left if name.startswith(".")]


@pytest.mark.parametrize("fault", ["No space left on device", "Read-only file system"])
def test_a_disk_that_takes_nothing_is_said_before_the_training_begins(
    tmp_path: Path, fault: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text("print('trained')")
    with small_disk(tmp_path / "disk") as disk:
        arguments = ("-m", "tracer", "--out", disk / "run", script)
        if fault == "No space left on device":
            fill(disk)
            done = run_python(*arguments, expect=2, preloaded=True)
        else:
            with read_only(disk):
                done = run_python(*arguments, expect=2, preloaded=True)

    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"run: cannot be written to ({fault}); name another directory" in done.stderr


def test_facts_that_find_no_space_leave_the_old_ones_and_nothing_beside(tmp_path: Path) -> None:
    before = RankFacts(rank=0, run_id="r1")
    with small_disk(tmp_path / "disk") as disk:
        write_rank_facts(disk, before)
        fill(disk)
        with pytest.raises(OSError, match="No space left on device"):
            write_rank_facts(disk, RankFacts(rank=0, run_id="r1", host="h" * 10_000))

        assert read_rank_facts(disk, 0) == before
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "rank-00000.json"]


def test_a_directory_that_becomes_read_only_ends_the_recording_with_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[], flush_interval_s=0.01) as t:
        t.step()
        with read_only(run):
            t.topology.group([0], "mesh_tp")
            while t.recorder.failure is None:
                t.step()
            t.stop()
    said = capsys.readouterr().err

    assert said.count("rankscope") == 1
    assert "Read-only file system" in said
    assert _steps(run)[0] == 0
    assert facts(run, 0)["ended"] is None


_DIRECTORY_DELETED = """
import shutil, sys
import torch
from tracer import Tracer
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train():
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    t.step()
with Tracer(sys.argv[1], flush_interval_s=0.01) as t:
    train()
    shutil.rmtree(t.path)
    if sys.argv[2] == "made anew":
        shutil.copytree(sys.argv[3], t.path)
    while t.recorder.failure is None:
        train()
    train()
print("trained")
"""


@pytest.mark.parametrize("then", ["deleted", "made anew"])
def test_a_directory_that_is_deleted_ends_the_recording_and_stays_as_it_is(
    tmp_path: Path, then: str
) -> None:
    """Made anew: another job records there, and must find its own files unharmed."""
    run, other = tmp_path / "run", tmp_path / "other"
    with Tracer(other, collectors=[]) as t:
        t.step()
    done = run_python("-c", _DIRECTORY_DELETED, run, then, other, preloaded=True)

    assert done.stdout == "trained\n"
    assert done.stderr.count("rankscope") == 1
    assert _WARNING in done.stderr
    if then == "deleted":
        assert not run.exists()
    else:
        theirs = {path.name: path.read_bytes() for path in other.iterdir()}
        assert {path.name: path.read_bytes() for path in run.iterdir()} == theirs


def test_a_file_made_anew_is_not_taken_for_ours(tmp_path: Path) -> None:
    """A file system gives the number of a file that is gone to the next one that is made."""
    ours = claim(tmp_path, 0, 1, "r1", overwrite=False)
    ours.check()
    events = tmp_path / events_file(0)
    for _ in range(100):
        events.unlink()
        events.touch()

        with pytest.raises(FileExistsError, match="another job has made it anew"):
            ours.check()


def _steps(run: Path, rank: int = 0) -> list[int]:
    """The steps in the file now; its last batch may be half written."""
    path = run / events_file(rank)
    if not path.exists() or not os.path.getsize(path):
        return []
    events = read_stream(path, "events").table.to_pylist()
    return [row["step"] for row in events if row["kind"] == "step"]
