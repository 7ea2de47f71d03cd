"""Two jobs that name one directory: one of them records there, the other is refused."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.support.launching import environment
from tests.support.reading import facts, rows
from tracer import Tracer, UsageError
from tracer.directory import claim

_BUSY = "another job is recording into it now"
_RECORDING = """
import os, sys
from tracer import Tracer
with Tracer(sys.argv[1], collectors=[], flush_interval_s=0.02) as t:
    t.step()
    if "fork" in sys.argv and os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print("recording", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def _recording(run: Path, *how: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which records one step into `run` until it gets a line."""
    with subprocess.Popen(
        [sys.executable, "-c", _RECORDING, str(run), *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(variables),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recording\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_is_being_recorded_cannot_be_replaced(tmp_path: Path, overwrite: bool) -> None:
    run = tmp_path / "run"
    with _recording(run) as job:
        before = (run / "rank-00000.arrows").stat().st_ino
        said = rf"run: {_BUSY} \(rank 0: pid {job.pid} on .+\); name another directory"
        with pytest.raises(UsageError, match=said):
            Tracer(run, collectors=[], overwrite=overwrite)

        assert (run / "rank-00000.arrows").stat().st_ino == before
        job.communicate("\n", timeout=60)
    assert len(rows(run, 0)) == 1
    assert facts(run, 0)["ended"] == "closed"
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("how", [[], ["fork"]], ids=["alone", "with a child that lives on"])
def test_a_killed_job_leaves_no_lock(tmp_path: Path, how: list[str]) -> None:
    run = tmp_path / "run"
    with _recording(run, *how) as job:
        job.send_signal(signal.SIGKILL)
        job.wait()
        with pytest.raises(UsageError, match=r"holds a run already.*overwrite=True"):
            Tracer(run, collectors=[])
        with Tracer(run, collectors=[], overwrite=True):
            pass

    assert rows(run, 0) == []
    assert not (run / ".lock").exists()


def test_one_rank_that_still_records_protects_the_whole_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    of_four = {"RANK": "3", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "of four"}
    with _recording(run, **of_four):
        with pytest.raises(UsageError, match=_BUSY):
            Tracer(run, collectors=[], overwrite=True)
        assert (run / "rank-00003.arrows").exists()


JOBS, RANKS = 2, 3


def _claim_at_once(
    run: Path, job: int, rank: int, overwrite: bool, start: Barrier, end: Barrier
) -> None:
    start.wait()
    try:
        held = claim(run, rank, RANKS, f"job {job}", overwrite=overwrite)
    except UsageError as error:
        end.wait()
        os._exit(1 if _BUSY in str(error) else 2)
    end.wait()
    held.release()
    os._exit(0)


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_jobs_that_start_at_once_one_wins_with_all_its_ranks(
    tmp_path: Path, overwrite: bool
) -> None:
    context = multiprocessing.get_context("spawn")
    for number in range(3):
        run = tmp_path / str(number)
        start, end = context.Barrier(JOBS * RANKS), context.Barrier(JOBS * RANKS)
        processes = [
            context.Process(target=_claim_at_once, args=(run, job, rank, overwrite, start, end))
            for job in range(JOBS)
            for rank in range(RANKS)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        codes = [process.exitcode for process in processes]

        assert codes in ([0] * RANKS + [1] * RANKS, [1] * RANKS + [0] * RANKS)
        assert sorted(p.name for p in run.iterdir()) == [f"rank-0000{r}.arrows" for r in (0, 1, 2)]


def test_ranks_of_a_job_with_more_ranks_do_not_join_an_older_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[]):
        pass
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(UsageError, match="holds a run already"):
        claim(run, 5, 8, "another", overwrite=False)

    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_recorded_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    for overwrite in (False, True):
        with Tracer(tmp_path / "run", collectors=[], overwrite=overwrite) as t:
            t.step()

    assert len(rows(tmp_path / "run", 0)) == 1
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_process_does_not_replace_what_it_is_recording_itself(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Tracer(run, collectors=[]) as t:
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="this process is recording into it now"):
                Tracer(run, collectors=[], overwrite=overwrite)
        t.step()

    assert len(rows(run, 0)) == 1
    assert facts(run, 0)["ended"] == "closed"


def test_a_tracer_that_never_started_gives_way_to_the_next_in_its_process(tmp_path: Path) -> None:
    """As in a notebook, where a cell is run twice."""
    run = tmp_path / "run"
    first = Tracer(run, collectors=[], overwrite=True)
    with Tracer(run, collectors=[], overwrite=True) as second:
        second.step()
    with pytest.raises(UsageError, match="make another"):
        first.start()

    assert len(rows(run, 0)) == 1


def test_a_tracer_that_was_stopped_does_not_write_over_its_run(tmp_path: Path) -> None:
    t = Tracer(tmp_path / "run", collectors=[])
    with t:
        t.step()
    with pytest.raises(UsageError, match="a Tracer records once; make another"):
        t.start()

    assert len(rows(tmp_path / "run", 0)) == 1
