"""A timeline that is made stretch by stretch is the one that is made at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.runs import open as opening
from dashboard.runs.stream_tables import StreamTables
from dashboard.timeline import build, by_category, by_name, nesting, occupancy
from dashboard.timeline.array_file import ArrayWriter, MemoryStore, read_arrays
from dashboard.timeline.build import write_timeline
from dashboard.timeline.nesting import nesting_depth
from tests.support.toy import Event, write_run
from tests.test_repo.markdown import ROOT
from tracer import streams
from tracer.schema import KINDS, events_file

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"


class InParts(dict[int, pa.Table]):
    """Events that come in so many parts, each of which reaches over the whole run."""

    def __init__(self, tables: Any, parts: int) -> None:
        super().__init__(tables)
        self._parts = parts

    def in_parts(
        self, rank: int, columns: Collection[str], take: Callable[[pa.Table], None]
    ) -> None:
        table = self[rank].select(["rank", *columns])
        # those that start together stay together, so that their order is known
        part_of = table["start"].to_numpy() // 3 % self._parts
        for part in range(self._parts):
            take(table.filter(pa.array(part_of == part)))


def made(run: Run, stretch: int, parts: int) -> tuple[dict[str, Any], dict[str, Any]]:
    store = MemoryStore()
    whole, run.tables = run.tables, InParts(run.tables, parts)
    head = write_timeline(run, store, advance=lambda events: None, few_events=-1, stretch=stretch)
    run.tables = whole
    return head, store.arrays


EVENTS = st.lists(
    st.builds(
        Event,
        start=st.integers(0, 200),
        duration=st.one_of(st.integers(0, 40), st.just(300)),
        kind=st.sampled_from((*KINDS, "kernel", "optimizer", "wait")),
        name=st.sampled_from(("F", "all_reduce", "Memcpy DtoH", "gemm")),
        lane=st.sampled_from(("host:main", "host:other", "device:0", "device:1")),
        step=st.sampled_from((None, 0, 1)),
        group=st.sampled_from((None, "tp:0-1", "dp:0")),
        bytes=st.sampled_from((None, 0, 7, 1 << 40)),
        correlation=st.one_of(st.none(), st.integers(0, 4)),
    ),
    max_size=40,
)


@settings(max_examples=25, deadline=None)
@given(
    events=EVENTS,
    stretch=st.integers(1, 9),
    parts=st.integers(1, 4),
    is_imported=st.booleans(),
)
def test_made_up_events_give_the_same_arrays(
    events: list[Event], stretch: int, parts: int, is_imported: bool
) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        patch.object(by_name, "BLOCK", 4),
        patch.object(by_category, "BLOCK", 2),
        patch.object(by_category, "_BLOCKS", 2),
        patch.object(nesting, "_CHAINS", 2),
    ):
        run = open_run(write_run(Path(directory) / "run", {0: events}))
        if is_imported:
            run.meta = replace(run.meta, source={"format": "kineto"})
        head, arrays = made(run, 1 << 20, 1)
        with patch.object(occupancy, "_AT_ONCE", 3), patch.object(build, "_STEPS", 2):
            other_head, other = made(run, stretch, parts)
    assert (head, arrays.keys()) == (other_head, other.keys())
    for name, array in arrays.items():
        assert array.dtype == other[name].dtype, name
        assert np.array_equal(array, other[name]), name


def test_a_recorded_run_gives_the_same_file(tmp_path: Path) -> None:
    run = open_run(SAMPLE)
    head, arrays = made(run, 1 << 20, 1)
    path = tmp_path / "arrays"
    path.touch()
    writer = ArrayWriter(path, 1)
    run.tables = InParts(run.tables, 3)
    assert head == write_timeline(
        run, writer, advance=lambda events: None, few_events=-1, stretch=1_000
    )
    writer.finish({})
    _, written = read_arrays(path, 1)
    assert written.keys() == arrays.keys()
    assert [name for name in arrays if not np.array_equal(arrays[name], written[name])] == []
    assert list(tmp_path.iterdir()) == [path]


@settings(deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 50)), max_size=60),
    cut=st.integers(0, 60),
    chains=st.integers(0, 3),
)
def test_rows_go_on_where_the_last_stretch_left_them(
    spans: list[tuple[int, int]], cut: int, chains: int
) -> None:
    ordered = np.array(sorted(spans, key=lambda s: (s[0], -s[1])), np.int64).reshape(-1, 2)
    start, end = ordered[:, 0], ordered.sum(axis=1)
    with patch.object(nesting, "_CHAINS", chains):
        whole = nesting_depth(start, end)
        before = start < cut
        rows = int(whole[before].max(initial=-1)) + 1
        until = [int(end[before & (whole == row)].max()) for row in range(rows)]
        assert nesting_depth(start[before], end[before]).tolist() == whole[before].tolist()
        after = nesting_depth(start[~before], end[~before], until)
    assert after.tolist() == whole[~before].tolist()


def test_files_that_are_read_in_parts_give_the_same_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a rank that was cut off."""
    path = shutil.copytree(SAMPLE, tmp_path / "run")
    damaged = path / events_file(1)
    os.truncate(damaged, damaged.stat().st_size * 2 // 3)
    whole = open_run(path)
    head, arrays = made(whole, 1 << 20, 1)
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(streams, "_AT_ONCE", 200)
    run = open_run(path)
    assert isinstance(run.tables, StreamTables)
    assert (run.event_count, run.steps, run.problems) == (
        whole.event_count,
        whole.steps,
        whole.problems,
    )
    store = MemoryStore()
    assert head == write_timeline(
        run, store, advance=lambda events: None, few_events=-1, stretch=500
    )
    assert [name for name in arrays if not np.array_equal(arrays[name], store.arrays[name])] == []
