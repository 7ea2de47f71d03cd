"""The index file: the same answers as from memory, made anew when it is not what it should be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard import open_run
from dashboard.runs.caches import FOLDER
from dashboard.timeline import index
from dashboard.timeline.array_file import ArrayWriter, BadArrayFile, read_arrays
from dashboard.timeline.build import build_timeline
from dashboard.timeline.details import event_details
from dashboard.timeline.index import FILE, needs_index, open_timeline
from dashboard.timeline.lanes import COLUMNS, Timeline
from dashboard.timeline.window import Window, query
from dashboard.timeline.wire import encode
from tests.support.toy import write_run
from tests.test_repo.markdown import ROOT
from tracer.schema import events_file

SAMPLE = ROOT / "sample_traces" / "pp4-1f1b-slow-stage"


@pytest.fixture(autouse=True)
def no_cache_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE, tmp_path / "sample")


def opened(path: Path) -> Timeline:
    return open_timeline(open_run(path), few_events=0)


def same(a: Timeline, b: Timeline) -> None:
    assert (a.lanes, a.names, a.span) == (b.lanes, b.names, b.span)
    for name in ("offsets", "steps", *COLUMNS):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert a.occupancy is not None
    assert b.occupancy is not None
    for field in fields(a.occupancy):
        of_a, of_b = getattr(a.occupancy, field.name), getattr(b.occupancy, field.name)
        pairs = zip(of_a, of_b, strict=True) if field.name == "levels" else [(of_a, of_b)]
        assert all(np.array_equal(one, other) for one, other in pairs), field.name


def test_the_file_answers_as_memory_does(sample: Path) -> None:
    run = open_run(sample)
    assert needs_index(run, few_events=0)
    built, stored = build_timeline(run, few_events=0), open_timeline(run, few_events=0)
    same(built, stored)
    assert not needs_index(run, few_events=0)
    same(built, opened(sample))
    first, last = stored.span
    for width in (10, 1_000):
        for end in (last, first + (last - first) // 50):
            asked = Window(start=first, end=end, width=width, first_row=0, end_row=stored.row_count)
            replies = [
                encode(one, query(one, asked), asked_ns_per_pixel=asked.ns_per_pixel)
                for one in (built, stored)
            ]
            assert replies[0] == replies[1]
    assert event_details(built, 1, 5) == event_details(stored, 1, 5)


def test_a_second_opening_makes_nothing(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(sample)
    monkeypatch.setattr(index, "build_timeline", None)
    monkeypatch.setattr(index, "write_timeline", None)
    assert len(opened(sample).start) > 0


def test_progress_counts_each_event_twice(sample: Path) -> None:
    done: list[int] = []
    timeline = open_timeline(open_run(sample), few_events=0, advance=done.append)
    assert sum(done) == 2 * len(timeline.start)


def test_a_small_run_has_no_file(sample: Path) -> None:
    run = open_run(sample)
    assert not needs_index(run)
    assert open_timeline(run).occupancy is None
    assert not (sample / FOLDER).exists()


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def spoil(place: int) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[place] ^= 0xFF
        file.write_bytes(content)

    return change


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "cut short": truncate,
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "another file": lambda file: file.write_bytes(b"x" * 5_000),
    "magic": spoil(0),
    "version": spoil(16),
    "length": spoil(31),
    "head": spoil(-9),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_made_anew(sample: Path, damage: Callable[[Path], Any]) -> None:
    whole = build_timeline(open_run(sample), few_events=0)
    opened(sample)
    damage(sample / FOLDER / FILE)
    assert needs_index(open_run(sample), few_events=0)
    same(whole, opened(sample))
    assert not needs_index(open_run(sample), few_events=0)


def test_the_file_of_another_run_is_made_anew(sample: Path, tmp_path: Path) -> None:
    other = shutil.copytree(SAMPLE.parent / "pp4-1f1b-balanced", tmp_path / "other")
    whole = build_timeline(open_run(sample), few_events=0)
    opened(sample)
    opened(other)
    shutil.copy(other / FOLDER / FILE, sample / FOLDER / FILE)
    assert needs_index(open_run(sample), few_events=0)
    same(whole, opened(sample))


def test_events_that_came_later_are_in_a_new_file(sample: Path) -> None:
    before = opened(sample)
    shutil.copy(SAMPLE / events_file(0), sample / events_file(0))
    os.utime(sample / events_file(0), ns=(0, 0))
    assert needs_index(open_run(sample), few_events=0)
    same(before, opened(sample))
    (sample / events_file(3)).unlink()
    assert len(opened(sample).start) < len(before.start)
    assert len(before.start[:10]) == 10  # who has the old file open goes on with it


def test_two_who_open_at_once_both_have_it(sample: Path) -> None:
    runs = [open_run(sample) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda run: open_timeline(run, few_events=0), runs))
    for timeline in found[1:]:
        same(found[0], timeline)
    assert [path.name for path in (sample / FOLDER).iterdir()] == [FILE]


def test_without_a_place_to_write_it_is_built_in_memory(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sample / FOLDER).write_text("a file, so that no directory can be made here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(sample / FOLDER))
    assert opened(sample).occupancy is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    opened(sample)
    assert list((tmp_path / "user-cache").rglob(FILE))


def test_when_the_disk_is_full_it_is_built_in_memory(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert opened(sample).occupancy is not None
    assert list((sample / FOLDER).iterdir()) == []


def test_a_run_without_events_has_an_index_too(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: []}))
    timeline = open_timeline(run, few_events=-1)
    assert timeline.row_count == 0
    picture = query(timeline, Window(start=0, end=9, width=3, first_row=0, end_row=0))
    assert len(picture.boxes.row) == 0


def test_an_array_beyond_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arrays"
    path.touch()
    writer = ArrayWriter(path, 1)
    writer.keep("x", np.arange(10))
    writer._places["x"] = ("<i8", 64, (1_000,))
    writer.finish({})
    with pytest.raises(BadArrayFile, match="not within"):
        read_arrays(path, 1)
