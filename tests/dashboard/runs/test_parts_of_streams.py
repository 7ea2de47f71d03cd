"""A rank that is asked for once is read in part: the rows and columns are those of the whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks.generate import simulated
from benchmarks.simulated.writing import Hosts
from benchmarks.simulated.writing import write_run as write_large
from dashboard import Run, open_run
from dashboard.runs import open as opening
from dashboard.runs.stream_tables import StreamTables
from tests.test_repo.markdown import ROOT
from tracer.errors import DamagedTrace
from tracer.schema import events_file
from tracer.streams import StreamWriter, read_stream

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"
QUESTIONS = (
    {"columns": ("start", "duration", "name")},
    {"columns": ("bytes",), "kinds": ("collective", "send")},
    {"columns": ("kind", "group", "seq"), "steps": (2, 3)},
    {"columns": ("duration",), "steps": (1,), "kinds": ("forward", "wait"), "ranks": (1,)},
    {"columns": ("name", "step"), "steps": (), "kinds": ("forward",)},
    {"columns": ("name", "stage"), "kinds": ("kernel",)},
    {"columns": ("name",), "kinds": ("collective", "wait"), "lanes": "host:main".__eq__},
)


@pytest.fixture(params=["one host", "several hosts", "cut off", "impossible rows"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "several hosts":
        training = simulated(pipeline=2, tensor=2, data=1, microbatches=4, seed=3)
        run = tmp_path / "large"
        write_large(run, training, steps=5, hosts=Hosts(ranks_per_host=2, error_us=30))
        return run
    run = shutil.copytree(SAMPLE, tmp_path / "sample")
    file = run / events_file(1)
    if request.param == "cut off":
        file.write_bytes(file.read_bytes()[:-20_000])
    elif request.param == "impossible rows":
        _spoil(file)
    return run


def _spoil(file: Path) -> None:
    """Every tenth row gets a microbatch that cannot be: most questions do not ask for it."""
    stream = read_stream(file, "events")
    table = stream.table
    place = table.schema.get_field_index("microbatch")
    odd = [-1 if row % 10 == 0 else None for row in range(table.num_rows)]
    spoilt = pc.coalesce(pa.array(odd, pa.int32()), table["microbatch"])
    table = table.set_column(place, table.schema.field(place), spoilt).combine_chunks()
    writer = StreamWriter(file, table.schema, "events", run_id=stream.run_id, rank=stream.rank)
    for batch in table.to_batches():
        writer.write(batch)
    writer.close()


def answers(run: Run, question: Mapping[str, object]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = run.events(**question).to_pylist()  # type: ignore[arg-type]
    return found


def test_parts_are_those_of_the_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_run(path)
    expected = [answers(whole, question) for question in QUESTIONS]
    assert sum(map(len, expected)) > 1_000
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    for question, rows in zip(QUESTIONS, expected, strict=True):
        run = open_run(path)
        assert run.problems == whole.problems
        assert isinstance(run.tables, StreamTables)
        assert answers(run, question) == rows
        assert not any(run.tables.holds(rank) for rank in run.ranks)
        assert answers(run, question) == rows
        asked = question.get("ranks", run.ranks)
        assert [rank for rank in run.ranks if run.tables.holds(rank)] == [*asked]
        assert answers(run, question) == rows


def test_where_not_all_ranks_find_room_no_part_makes_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(opening.recalled, "__kwdefaults__", {"kept_bytes": 1_000})
    run = open_run(SAMPLE)
    for _ in range(3):
        answers(run, QUESTIONS[0])
    assert isinstance(run.tables, StreamTables)
    assert not any(run.tables.holds(rank) for rank in run.ranks)


def test_a_part_of_a_file_that_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    path = shutil.copytree(SAMPLE, tmp_path / "sample")
    run = open_run(path)
    file = path / events_file(2)
    file.write_bytes(file.read_bytes()[:-20_000])
    with pytest.raises(DamagedTrace, match=r"rank-00002\.arrows: has changed since"):
        answers(run, QUESTIONS[0])
