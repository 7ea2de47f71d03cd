"""A large run is opened from what the last opening found, unless its files have changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

from dashboard import Run, open_run
from dashboard.runs import caches, opened
from dashboard.runs import open as opening
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT
from tracer.errors import DamagedTrace
from tracer.schema import events_file

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"


@pytest.fixture(autouse=True)
def every_run_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opening, "MANY_EVENTS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE, tmp_path / "sample")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The ranks whose events are read."""
    found: list[int] = []
    read = opening._events_of

    def noted(rank: int, path: Path) -> object:
        found.append(rank)
        return read(rank, path)

    monkeypatch.setattr(opening, "_events_of", noted)
    return found


def same(a: Run, b: Run) -> None:
    for name in ("ranks", "facts", "meta", "problems", "steps", "begin", "recorded_until"):
        assert getattr(a, name) == getattr(b, name), name
    assert str(a.clock) == str(b.clock)
    assert repr(a) == repr(b)
    assert a.events().equals(b.events())
    assert a.counters.equals(b.counters)


def test_a_run_is_the_same_when_it_is_opened_again(sample: Path, reads: list[int]) -> None:
    first = open_run(sample)
    assert reads == [0, 1, 2, 3]
    again = open_run(sample)
    assert reads == [0, 1, 2, 3]
    assert again.events(ranks=[2]).num_rows == first.events(ranks=[2]).num_rows
    assert reads == [0, 1, 2, 3, 2]
    same(first, again)
    pairs = zip(
        first.accounting().table.to_pylist(), again.accounting().table.to_pylist(), strict=True
    )
    assert all(a == b for a, b in pairs)


def test_clocks_problems_and_killed_ranks_are_remembered(tmp_path: Path) -> None:
    def rank(shift: int) -> list[Event]:
        return [
            Event(
                start=shift + 100 * step,
                duration=50,
                kind="collective",
                name="all_reduce",
                group="dp:0-1",
                seq=step,
            )
            for step in range(9)
        ]

    path = write_run(
        tmp_path / "run",
        {0: rank(0), 1: rank(7_000)},
        facts={
            0: RankFacts(coordinates={"dp": 0}, boot_id="one"),
            1: RankFacts(coordinates={"dp": 1}, boot_id="two", ended=None, last_flush=10**9),
        },
        world_size=3,
    )
    first = open_run(path)
    assert len(first.problems) >= 3
    assert first.clock.maps[1].offsets[0] == -7_000
    same(first, open_run(path))


def test_a_file_that_changed_is_read_again(sample: Path) -> None:
    before = open_run(sample)
    content = (sample / events_file(0)).read_bytes()
    (sample / events_file(0)).write_bytes(content[: len(content) // 2])
    cut = open_run(sample)
    assert any("damaged" in str(problem) for problem in cut.problems)
    assert cut.event_count < before.event_count


def test_events_that_changed_behind_an_open_run_are_refused(sample: Path) -> None:
    open_run(sample)
    run = open_run(sample)
    with (sample / events_file(1)).open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(DamagedTrace, match="has changed since the run was opened"):
        run.events()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "null", '{"version": 1}', '{"version": 99}', "\x00"]
)
def test_a_damaged_cache_is_as_none(sample: Path, content: str) -> None:
    first = open_run(sample)
    file = sample / caches.FOLDER / opened.FILE
    whole = json.loads(file.read_text())
    file.write_text(content)
    same(first, open_run(sample))
    assert json.loads(file.read_text()) == whole


def test_a_part_of_a_cache_is_as_none(sample: Path) -> None:
    first = open_run(sample)
    file = sample / caches.FOLDER / opened.FILE
    whole = json.loads(file.read_text())
    for key in whole:
        file.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        same(first, open_run(sample))


def test_where_the_run_cannot_be_written_the_users_cache_is_used(
    sample: Path, tmp_path: Path, reads: list[int]
) -> None:
    (sample / caches.FOLDER).write_text("a file, so that no directory can be made here")
    first = open_run(sample)
    (kept,) = (tmp_path / "user-cache" / "rankscope").glob(f"*/{opened.FILE}")
    assert kept.stat().st_size > 0
    reads.clear()
    again = open_run(sample)
    assert reads == []
    same(first, again)


def test_where_nothing_can_be_written_runs_open_all_the_same(
    sample: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (sample / caches.FOLDER).write_text("")
    assert pc.sum(open_run(sample).events()["duration"]).as_py() > 0


def test_what_a_killed_process_left_is_removed_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "x.index.0.part"
    left.write_text("")
    with caches.replacing(tmp_path / "x.index") as part:
        assert left.exists()
        part.write_text("new")
    assert (tmp_path / "x.index").read_text() == "new"
    monkeypatch.setattr(caches, "_ABANDONED_S", -1.0)
    with caches.replacing(tmp_path / "x.index"):
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x.index"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    def fail() -> None:
        with caches.replacing(tmp_path / "x") as part:
            part.write_text("half")
            raise OSError("the disk is full")

    (tmp_path / "x").write_text("old")
    with pytest.raises(OSError, match="full"):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]
