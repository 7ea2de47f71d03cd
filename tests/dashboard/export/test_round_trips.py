"""Every event of a run, with all its columns, is in every export, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.export.formats import FORMATS, export
from dashboard.runs.opened import LazyTables
from tests.support.pipeline_toy import write_pipeline
from tests.support.read_back import READERS, Row, in_order, rows_of
from tests.support.toy import Event, write_counters, write_run
from tests.test_repo.markdown import ROOT

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"


def no_events(path: Path) -> Path:
    return write_run(path, {0: [], 1: []})


def one_event(path: Path) -> Path:
    return write_run(path, {0: [Event(start=5, duration=7, kind="forward", name="F", step=None)]})


def crossing(path: Path) -> Path:
    """Nested, crossing, touching, of equal times, of no duration; a counter before all of them."""
    spans = [(0, 10), (2, 4), (2, 4), (8, 4), (8, 0), (10, 0), (10, 5), (12, 0), (15, 1), (0, 10)]
    rows = [
        Event(start=s, duration=d, kind="user", name=f"{i}", lane="device:7", flops=1 << 60)
        for i, (s, d) in enumerate(spans)
    ]
    odd = Event(start=-4, duration=30, kind="marker", name='"a", <b>\n')
    write_run(path, {0: rows, 3: [odd]}, world_size=4)
    write_counters(path, 0, [(-50, "memory.allocated/bytes", 1.5), (9, "power/W", 7.0)])
    return path


RUNS = {
    "no events": no_events,
    "one event": one_event,
    "crossing events": crossing,
    "pipeline": write_pipeline,
    "recorded": lambda path: SAMPLE,
}


def exported(run: Run, to: str, path: Path, **how: object) -> list[Row]:
    out = path / f"out{FORMATS[to].suffix}"
    export(run, to, out, **how)  # type: ignore[arg-type]
    return in_order(READERS[to](out))


def comparable(rows: list[Row], to: str) -> list[Row]:
    """Perfetto draws steps on a track of their own, and an event without a name by its kind."""
    if to != "perfetto":
        return rows
    return in_order(
        [
            {k: v for k, v in row.items() if k != "lane" or row["kind"] != "step"}
            | {"name": row["name"] or row["kind"]}
            for row in rows
        ]
    )


@pytest.mark.parametrize("make", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("to", READERS)
def test_all_events_and_nothing_else(tmp_path: Path, to: str, make) -> None:  # type: ignore[no-untyped-def]
    run = open_run(make(tmp_path / "run"))
    assert exported(run, to, tmp_path) == comparable(rows_of(run), to)


@pytest.mark.parametrize("to", READERS)
def test_some_ranks_and_steps(tmp_path: Path, to: str) -> None:
    run = open_run(SAMPLE)
    wanted = rows_of(run, ranks=[1, 2], steps=[3, 4])
    assert len(wanted) > 100
    found = exported(run, to, tmp_path, ranks=[1, 2], steps=[3, 4])
    if to in ("perfetto", "chrome"):  # these are read from the first event on
        begin = min(row["start"] for row in wanted)
        wanted = in_order([row | {"start": row["start"] - begin} for row in wanted])
    assert found == comparable(wanted, to)


def test_no_rank_stays_in_memory(tmp_path: Path) -> None:
    run = open_run(SAMPLE)
    known, read = run.tables, []

    def reading(rank: int) -> pa.Table:
        read.append(rank)
        return known[rank]

    run.tables = LazyTables(run.ranks, reading)
    export(run, "csv", tmp_path / "a.csv")
    assert read == [0, 1, 2, 3]
    assert run.tables[2] is known[2]
    export(run, "csv", tmp_path / "a.csv")
    assert read == [0, 1, 2, 3, 2, 0, 1, 3], "what others keep is not read again"


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=30)


@settings(max_examples=15)
@given(spans=SPANS)
def test_a_viewer_that_draws_stacks_gets_every_duration_right(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("spans")
    rows = [Event(start=s, duration=d, kind="user", name=f"{i}") for i, (s, d) in enumerate(spans)]
    run = open_run(write_run(path / "run", {0: rows}))
    assert exported(run, "perfetto", path) == comparable(rows_of(run), "perfetto")


def test_chrome_is_one_of_ours_by_its_first_key(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    run = open_run(SAMPLE)
    export(run, "chrome", out)
    trace = json.loads(out.read_text())
    assert trace["rankscope"]["run"]["mesh"]["names"] == ["pp", "tp"]
    facts = {e["pid"]: e["args"] for e in trace["traceEvents"] if e["name"] == "rankscope_rank"}
    assert facts[3]["groups"]["tp:2-3"]["ranks"] == [2, 3]
    assert list(trace).index("rankscope") < list(trace).index("traceEvents")
