"""A large run is opened from what the last opening found, unless its files have changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks.generate import simulated
from benchmarks.simulated.writing import Hosts
from benchmarks.simulated.writing import write_run as write_large
from dashboard import Run, open_run
from dashboard.runs import caches, opened
from dashboard.runs import open as opening
from tests.support.kineto_toy import Toy, two_ranks
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

    def noted(rank: int, path: Path, **how: Any) -> object:
        found.append(rank)
        return read(rank, path, **how)

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


@pytest.mark.parametrize("dur", [5, 2**44], ids=["all rows", "one row that cannot be"])
def test_what_was_just_imported_is_not_read_to_open_it(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch, dur: float
) -> None:
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    file = two_ranks(tmp_path / "traces", host=None) / "rank1.json"
    toy = Toy(1, 2)
    for name in ("one\u2028line", "n" * 300):
        toy.kernel(name, 1002, 1010, dur)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"traceEvents": content["traceEvents"] + toy.events}))
    first = open_run(tmp_path / "traces")
    assert first.clock.method == "ends of collectives"
    assert reads == ([] if dur == 5 else [0, 1])
    assert any("cannot be" in str(problem) for problem in first.problems) == (dur != 5)
    (first.path / caches.FOLDER / opened.FILE).unlink()
    again = open_run(tmp_path / "traces")
    assert reads[-2:] == [0, 1]
    same(first, again)


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


def test_a_very_large_run_is_opened_rank_by_rank(
    sample: Path, monkeypatch: pytest.MonkeyPatch, reads: list[int]
) -> None:
    monkeypatch.setattr(opening, "MANY_EVENTS", 10**9)
    whole = open_run(sample)
    reads.clear()
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    skimmed = open_run(sample)
    assert isinstance(skimmed.tables, opened.LazyTables)
    assert reads == [0, 1, 2, 3]
    same(whole, skimmed)


def _on_several_hosts(path: Path, *, ranks_per_host: int = 2) -> Path:
    """Tensor ranks 0-3 and 4-7; with three on a host, both groups are on hosts 0 or 2, and on 1."""
    training = simulated(pipeline=2, tensor=4, data=1, microbatches=4, seed=11)
    write_large(path, training, steps=4, hosts=Hosts(ranks_per_host=ranks_per_host, error_us=30))
    return path


@pytest.mark.parametrize("compared", [True, False])
def test_of_several_hosts_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    """Clocks are aligned to the nanosecond as if all events had been read: by comparisons, and
    where there are none, by what the ranks of different hosts met in.
    """
    monkeypatch.setattr(opening, "MANY_EVENTS", 10**9)
    path = _on_several_hosts(tmp_path / "run", ranks_per_host=2 if compared else 3)
    if not compared:
        for file in path.glob("*.clock.arrows"):
            file.unlink()
    whole = open_run(path)
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    skimmed = open_run(path)
    assert isinstance(skimmed.tables, opened.LazyTables)
    assert skimmed.clock.method == ("exchange between hosts" if compared else "ends of collectives")
    assert skimmed.clock.checked > 0
    same(whole, skimmed)


def test_of_very_many_operations_some_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of the operations, more than are wanted: the bound of the clocks' error stays of its
    size, and every time is within it of what all events together say.
    """
    monkeypatch.setattr(opening, "MANY_EVENTS", 10**9)
    path = _on_several_hosts(tmp_path / "run")
    whole = open_run(path)
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(opening, "operations_looked_at", lambda files: 3)
    skimmed = open_run(path)
    assert 0 < skimmed.clock.checked < whole.clock.checked
    assert whole.clock.bound_ns is not None
    assert skimmed.clock.bound_ns is not None
    assert skimmed.clock.bound_ns <= 1.5 * whole.clock.bound_ns
    for rank in whole.ranks:
        apart = np.abs(
            whole.tables[rank]["start"].to_numpy() - skimmed.tables[rank]["start"].to_numpy()
        )
        assert apart.max() <= whole.clock.bound_ns + skimmed.clock.bound_ns


def test_tables_that_were_asked_for_last_are_kept() -> None:
    asked: list[int] = []

    def read(rank: int) -> pa.Table:
        asked.append(rank)
        return pa.table({"x": pa.array([rank] * 100, pa.int64())})

    tables = opened.LazyTables((0, 1, 2), read, kept_bytes=1_600)
    for rank in (0, 1, 0, 2, 0, 1):
        assert tables[rank]["x"][0].as_py() == rank
    assert asked == [0, 1, 2, 1]
    assert (list(tables), len(tables)) == ([0, 1, 2], 3)
    with pytest.raises(KeyError):
        tables[3]
    alone = opened.LazyTables((0,), read, kept_bytes=0)
    assert alone[0] is alone[0]


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
