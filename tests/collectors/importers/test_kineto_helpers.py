"""Kineto files are read by several processes: forks or fresh ones, and whatever befalls them."""

from __future__ import annotations

import ast
import contextlib
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from collectors.importers import imported_run, kineto_files, kineto_helper
from collectors.importers.formats import files_of, format_named, import_files
from collectors.importers.kineto_helper import Helper
from collectors.importers.kineto_reading import KinetoFile
from tests.support.kineto_toy import two_ranks
from tests.support.launching import run_python
from tests.test_repo.markdown import ROOT
from tracer.errors import DamagedTrace


def import_by(source: Path, out: Path, processes: int) -> dict[str, bytes]:
    """The files of the run, which so many processes made."""
    kineto = format_named("kineto")
    cores = set(range(processes))
    with (
        patch.object(kineto_files, "_WORTH", 1),
        patch.object(kineto_files.os, "sched_getaffinity", lambda pid: cores),
        patch.object(imported_run.secrets, "token_hex", lambda bytes_: "0" * 2 * bytes_),
    ):
        import_files(kineto, files_of(kineto, [source]), out)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@contextmanager
def only_helpers_read() -> Iterator[None]:
    """And this process what they could not."""
    with (
        patch.object(kineto_files, "_is_for_here", lambda path, files: False),
        patch.object(kineto_files, "_read_here", lambda waiting, left, reading: None),
    ):
        yield


@pytest.fixture
def in_fresh_helpers() -> Iterator[None]:
    """As where the process has threads."""
    with patch.object(kineto_helper, "may_fork", lambda: False):
        yield


@pytest.mark.usefixtures("in_fresh_helpers")
def test_a_run_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    two_ranks(tmp_path / "traces")
    for source in (tmp_path / "traces", ROOT / "tests/data/kineto/pp2-tp2-1f1b"):
        one = import_by(source, tmp_path / f"{source.name}-1", 1)
        with (  # nobody but helpers
            only_helpers_read(),
            patch.object(kineto_files, "read_file", side_effect=AssertionError),
        ):
            assert import_by(source, tmp_path / f"{source.name}-3", 3) == one
        assert import_by(source, tmp_path / f"{source.name}-4", 4) == one


_FORKS = """
import os, signal, sys
from pathlib import Path
from unittest.mock import patch
import pyarrow as pa
from collectors.importers import kineto_files, kineto_helper
from tests.collectors.importers.test_kineto_helpers import import_by, only_helpers_read
source, out = map(Path, sys.argv[1:])
one = import_by(source, out / "1", 1)
print("said once", end=" ")  # still in a buffer when the process is forked
assert kineto_helper.may_fork()
with (
    only_helpers_read(),
    patch.object(kineto_files, "read_file", side_effect=AssertionError),
    patch.object(kineto_helper, "fresh", side_effect=AssertionError),
):
    assert import_by(source, out / "3", 3) == one
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert import_by(source, out / "4", 4) == one
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
with (
    only_helpers_read(),
    patch.object(kineto_helper.os, "fork", side_effect=BlockingIOError),
):
    assert import_by(source, out / "none", 3) == one

def ended(child):
    code = child.wait()
    os.close(child.asked)
    os.close(child.said)
    return code

def says_its_pool(asked, said):
    os.write(said, pa.default_memory_pool().backend_name.encode())

for number in (signal.SIGTERM, signal.SIGINT):
    child = kineto_helper.forked()
    os.kill(child.pid, number)
    assert ended(child) == -number
with patch.object(kineto_helper, "serve", says_its_pool):
    child = kineto_helper.forked()
    assert os.read(child.said, 99).decode() == pa.default_memory_pool().backend_name
    ended(child)
nobody = patch.object(kineto_helper.os, "kill", side_effect=AssertionError)  # by its id
with nobody:
    child = kineto_helper.forked()
    child.kill()
    assert ended(child) == -signal.SIGKILL
    child.kill()
with patch.object(kineto_helper.os, "pidfd_open", side_effect=OSError(38, "no such call")):
    child = kineto_helper.forked()
    child.kill()
    assert ended(child) == -signal.SIGKILL
    with nobody:
        child.kill()
print(os.listdir("/proc/self/fd"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
def test_a_process_with_one_thread_forks_its_helpers(tmp_path: Path) -> None:
    two_ranks(tmp_path / "traces")
    done = run_python("-W", "error", "-c", _FORKS, str(tmp_path / "traces"), str(tmp_path))
    assert done.stdout.count("said once") == 1
    assert len(ast.literal_eval(done.stdout.split(" ", 2)[2])) == 4  # and that of the directory


def test_signals_wait_until_the_fork_has_its_own_handlers() -> None:
    masks = []

    def fork() -> int:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        raise BlockingIOError

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with patch.object(kineto_helper.os, "fork", fork), pytest.raises(BlockingIOError):
        kineto_helper.forked()
    assert masks == [before | {signal.SIGINT, signal.SIGTERM}]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_fresh_helpers_take_memory_from_where_the_user_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
    says = "import os; print(os.environ['ARROW_DEFAULT_MEMORY_POOL'], flush=True)"
    monkeypatch.setattr(kineto_helper, "_CODE", says)
    child = kineto_helper.fresh()
    with open(child.said, "rb") as said, open(child.asked, "wb"):
        assert said.read() == b"mimalloc\n"
    child.wait()


def test_a_file_whose_columns_are_gone_or_cut_off_is_read_here(tmp_path: Path) -> None:
    path = two_ranks(tmp_path / "traces") / "rank0.json"
    found, done = tmp_path / "found", list[int]()
    with contextlib.closing(kineto_files._Reading(0, done.append)) as reading:
        for left in (None, b"", pickle.dumps(list(range(100)))[:50]):
            if left is not None:
                found.write_bytes(left)
            asked = kineto_files._Asked(path, 1, Future())
            asked.future.set_result(found)
            events = kineto_files._held(asked, reading).events
            assert events is not None
            assert len(events.steps) == 2
    assert sum(done) == 0  # the helper had told of these bytes


def test_what_a_helper_could_not_finish_is_removed_at_once(tmp_path: Path) -> None:
    path = two_ranks(tmp_path / "traces") / "rank0.json"

    def unfinished(helper: Helper, path: Path, found: Path, advance: object) -> bool:
        found.write_bytes(bytes(1000))
        left.append(found)
        return False

    left: list[Path] = []
    with (
        patch.multiple(kineto_helper, may_fork=lambda: False, fresh=Mock(side_effect=OSError)),
        patch.object(Helper, "read", unfinished),
        contextlib.closing(kineto_files._Reading(1, lambda done: None)) as reading,
    ):
        assert isinstance(reading.ask(path).result(), KinetoFile)
        assert [found.exists() for found in left] == [False]


def test_what_is_read_ahead_waits_on_disk_if_there_is_room(tmp_path: Path) -> None:
    path = two_ranks(tmp_path / "traces") / "rank0.json"
    with contextlib.closing(kineto_files._Reading(0, lambda done: None)) as reading:
        reading._place = tmp_path
        asked = kineto_files._Asked(path, 1, Future())
        asked.future.set_result(found := reading.read_ahead(path))
        assert isinstance(found, Path)
        events = kineto_files._held(asked, reading).events
        assert events is not None
        assert len(events.steps) == 2
        with patch.object(pickle, "dump", side_effect=OSError("no space left")):
            assert isinstance(reading.read_ahead(path), KinetoFile)
    assert [left.name for left in tmp_path.iterdir()] == ["traces"]


@pytest.mark.parametrize(("helpers", "read"), [(0, "0"), (1, "0123"), (2, "012"), (9, "0")])
def test_the_last_files_are_left_to_helpers(helpers: int, read: str) -> None:
    waiting = [kineto_files._Asked(Path(str(number)), 1, Future()) for number in range(4)]
    done: list[str] = []

    def reads(path: Path) -> Path:
        done.append(path.name)
        return path

    reading = Mock(helpers=helpers, read=reads, read_ahead=reads)
    if helpers:  # which have begun the first
        waiting[0].future.set_running_or_notify_cancel()
        done.append("0")
    kineto_files._read_here(waiting, 1, reading)
    assert "".join(done) == read


@pytest.mark.usefixtures("in_fresh_helpers")
def test_files_of_helpers_that_die_are_read_all_the_same(tmp_path: Path) -> None:
    two_ranks(tmp_path / "traces")
    one = import_by(tmp_path / "traces", tmp_path / "one", 1)
    done: list[int] = []
    with only_helpers_read():
        with patch.object(kineto_helper, "_CODE", "import os; os.abort()"):
            assert import_by(tmp_path / "traces", tmp_path / "dead", 3) == one
        hangs = "import time; time.sleep(60)"
        with patch.multiple(kineto_helper, _CODE=hangs, _SILENT_S=0.1):
            assert import_by(tmp_path / "traces", tmp_path / "hangs", 2) == one
        with patch.object(kineto_helper.sys, "executable", None):
            assert import_by(tmp_path / "traces", tmp_path / "none", 3) == one
        files = sorted((tmp_path / "traces").iterdir())
        with (
            patch.object(kineto_files, "_WORTH", 1),
            patch.object(kineto_helper, "_DONE", b"finished"),  # not what helpers say
        ):
            kineto_files.read_files(files, done.append, lambda file: None)
        greets = "print('hello', flush=True)\n" + kineto_helper._CODE
        with patch.object(kineto_helper, "_CODE", greets):
            assert import_by(tmp_path / "traces", tmp_path / "greeted", 2) == one
    with patch.object(kineto_files, "scratch", side_effect=OSError):
        assert import_by(tmp_path / "traces", tmp_path / "no-place", 3) == one
    assert sum(done) == sum(file.stat().st_size for file in files)


@pytest.mark.usefixtures("in_fresh_helpers")
def test_the_first_of_several_bad_files_is_named_and_nobody_is_left(tmp_path: Path) -> None:
    two_ranks(tmp_path / "traces")
    for number in (2, 3, 4):
        (tmp_path / f"traces/rank{number}.json").write_text('{"traceEvents": [{"ph": "X"},')
    helpers: list[Helper] = []
    with (
        patch.object(kineto_files, "Helper", lambda: helpers.append(Helper()) or helpers[-1]),
        pytest.raises(DamagedTrace, match=r"rank2\.json: not a whole JSON trace"),
    ):
        import_by(tmp_path / "traces", tmp_path / "run", 8)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("import")]
    assert len([helper.child for helper in helpers if helper.child is not None]) == 4
    assert None not in [helper.ended for helper in helpers]
    assert not (tmp_path / "run").exists()
