"""Folders for a while: gone at the end, and after a kill with the next one; nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from collectors.scratch import scratch
from tests.support.launching import environment

_HOLDS_ONE = """
import sys
from collectors.scratch import scratch
with scratch() as folder:
    (folder / "large").write_bytes(bytes(1000))
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_one_whose_process_was_killed_is_removed_by_the_next(temporary: Path) -> None:
    runs = [temporary / "rankscope-my-run", temporary / "rankscope-scratch-my-run"]
    for path in runs:
        path.mkdir()
        (path / "run.json").write_text("{}")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS_ONE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment({"TMPDIR": str(temporary)}),
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with scratch():
            assert (theirs / "large").exists(), "it is in use"
        other.kill()
    assert (theirs / "large").exists()
    with scratch() as ours:
        assert sorted(temporary.iterdir()) == sorted([*runs, ours])
        with scratch() as another:
            assert ours.is_dir(), "of the same process"
        assert not another.exists()
    assert sorted(temporary.iterdir()) == runs
    assert all((path / "run.json").exists() for path in runs)


def test_one_that_has_no_lock_is_left_alone(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks tells nothing of who uses what."""

    def refused(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", refused)
    with scratch() as ours:
        monkeypatch.undo()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        with scratch():
            assert ours.is_dir()
    assert not ours.exists()


def test_that_of_another_host_is_left_alone_for_a_week(temporary: Path) -> None:
    """Its locks may not be seen here, where they share the directory. So may those of before this
    host was started anew.
    """
    theirs = temporary / "rankscope-scratch-4f1c0d3a-held"
    theirs.mkdir()
    (theirs / "in-use.lock").touch()
    with scratch() as ours:
        assert theirs.is_dir()
        assert ours.name.startswith("rankscope-scratch-")
    week_ago = time.time() - 8 * 86_400
    os.utime(theirs / "in-use.lock", (week_ago, week_ago))
    with scratch():
        assert not theirs.exists()
