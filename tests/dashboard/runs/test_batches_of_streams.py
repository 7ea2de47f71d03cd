"""Some steps of a long rank: what tells of them is read, in groups of rows, and no others."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dashboard import Run, open_run
from dashboard.analysis.device_view import rank_as_its_device_ran
from dashboard.analysis.operations import operations
from dashboard.analysis.replay.own_work import innermost_spans
from dashboard.analysis.replay.strands import operations_as_devices_ran, strands_of
from dashboard.analysis.steps import step_windows
from dashboard.runs import contents, packed, part, stretches
from dashboard.runs import open as opening
from dashboard.runs.gather import gather, survey
from dashboard.runs.packed_tables import PackedTables
from dashboard.runs.part import alone, part_of
from dashboard.runs.stores import store_at
from dashboard.runs.stream_tables import StreamTables
from dashboard.runs.stretches import around_stretches
from tests.support.toy import Event
from tests.support.toy import write_run as write_toy
from tracer.schema import EVENT_SCHEMA, RUN_FILE, events_file
from tracer.streams import StreamContent, StreamWriter, read_stream

STEPS, STEP = 8, 100


def _in_small_batches(run: Path, rows: int) -> Path:
    for file in run.glob(events_file(0).replace("00000", "*")):
        stream = read_stream(file, "events")
        writer = StreamWriter(file, EVENT_SCHEMA, "events", run_id=stream.run_id, rank=stream.rank)
        writer.write(pa.RecordBatch.from_pylist([], schema=EVENT_SCHEMA))
        for batch in stream.table.combine_chunks().to_batches(rows):
            writer.write(batch)
        writer.close()
    return run


def _operation(chance: random.Random, number: int, lane: str) -> list[Event]:
    begin = chance.randrange(STEPS * STEP)
    kind = chance.choice(["collective", "send", "recv"])
    what: dict[str, Any] = {
        "name": kind,
        "group": "dp:0-1",
        "seq": number,
        "correlation": chance.choice([number, number, None]),
    }
    found = [Event(start=begin, duration=2, kind=kind, step=begin // STEP, **what)]
    for other, on in ((kind, lane), ("wait", "host:main"), ("wait", lane)):
        later = begin + chance.randrange(2, 350)
        if chance.random() < 0.6:
            length = chance.randrange(30)
            when = min(later // STEP, STEPS - 1)
            found.append(
                Event(start=later, duration=length, kind=other, step=when, lane=on, **what)
            )
    return found


def _random_run(path: Path, chance: random.Random, lanes: Sequence[str]) -> Path:
    """One rank; work on several lanes, and operations whose parts lie up to three steps apart."""
    events = [
        Event(start=STEP * step, duration=STEP, kind="step", step=step) for step in range(STEPS)
    ]
    for number in range(60):
        begin = chance.randrange(STEPS * STEP)
        kind = chance.choice(["forward", "backward", "optimizer", "data", "user", "kernel"])
        work: dict[str, Any] = {
            "duration": chance.randrange(60),
            "kind": kind,
            "step": begin // STEP,
            "stage": 0,
        }
        late = begin + chance.randrange(150)
        events.append(Event(start=begin, name=f"n{number % 7}", **work))
        events.append(Event(start=late, name=f"n{number % 5}", lane=chance.choice(lanes), **work))
    for number in range(40):
        events += _operation(chance, number, chance.choice(lanes))
    events.sort(key=lambda event: event.start + event.duration + chance.randrange(40))
    return _in_small_batches(write_toy(path, {0: events}), rows=11)


@pytest.fixture(params=["host", "devices", "imported"])
def runs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Run, Run]]:
    """Some random runs, each as it is in memory, and as it is read in part."""
    chance = random.Random(20_261_128)
    lanes: tuple[str, ...] = ("host:main", "host:other")
    if request.param != "host":
        lanes = ("device:7", "device:9", "device:9 kernels")
    paths = [_random_run(tmp_path / str(number), chance, lanes) for number in range(2)]
    if request.param == "imported":
        for path in paths:
            said = json.loads((path / RUN_FILE).read_text())
            said["source"] = {"format": "kineto", "lacks": []}
            (path / RUN_FILE).write_text(json.dumps(said))
    whole = [open_run(path) for path in paths]
    assert all((run.meta.source is not None) == (request.param == "imported") for run in whole)
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(opening.recalled, "__kwdefaults__", {"kept_bytes": 0})
    return list(zip(whole, map(open_run, paths), strict=True))


def test_a_part_is_that_of_the_whole(
    runs: list[tuple[Run, Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed.pack, "__kwdefaults__", {"rows": 11})
    monkeypatch.setattr(part, "_GROUPS", 3)
    for whole, parted in runs:
        source, target = store_at(whole.path), store_at(tmp_path / f"{whole.name}-packed")
        gather(survey([source], target), target, packed=True)
        fetched = open_run(target.location)
        assert isinstance(parted.tables, StreamTables)
        assert isinstance(fetched.tables, PackedTables)
        for steps in ([0], [2, 5], [99]):
            for run in (parted, fetched):
                expected = part_of(whole, 0, steps).tables[0].to_pylist()
                assert part_of(run, 0, steps).tables[0].to_pylist() == expected
            kinds: dict[str, Any] = {
                "kinds": ("wait", "forward"),
                "columns": ("start", "step", "name"),
            }
            chosen = parted.events(steps=steps, **kinds)
            assert chosen.to_pylist() == whole.events(steps=steps, **kinds).to_pylist()


def test_strands_of_stretches_are_those_of_the_whole_rank(
    runs: list[tuple[Run, Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ((0, 1), (4,), (6,))
    monkeypatch.setattr(stretches, "MANY_EVENTS", 0)
    monkeypatch.setattr(contents, "_ROWS", 300)
    for whole, parted in runs:
        view = rank_as_its_device_ran(alone(whole, 0), 0)
        told = operations_as_devices_ran(parted, (1, 4, 6))
        assert told.to_pylist() == operations(view, (1, 4, 6)).to_pylist()
        windows = [step_windows(view, steps, ranks=[0]) for steps in chosen]
        reach = [_reach(table) for table in windows]
        issued = operations(view, ranks=[0], within=reach)
        spans = innermost_spans(view, 0, reach)
        found = strands_of(parted, [0], chosen)
        for strands, mine, (begin, end) in zip(found, windows, reach, strict=True):
            assert strands[0].windows.to_pylist() == mine.to_pylist()
            assert strands[0].operations.to_pylist() == [
                row for row in issued.to_pylist() if begin <= row["start"] <= end
            ]
            assert strands[0].spans.to_pylist() == [
                row for row in spans.to_pylist() if row["start"] <= end and row["end"] >= begin
            ]


def test_the_step_before_may_be_one_that_other_ranks_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0's device is done with step 1 at 150, when its step 2 begins therefore."""
    events = []
    for step in range(STEPS):
        when = {"start": STEP * step, "step": step}
        events.append(Event(**when, duration=STEP, kind="step"))
        events.append(Event(**when, duration=10, kind="forward", name="F", stage=0))
        on_device = {"lane": "device:7", "name": "F", "stage": 0, "step": step}
        events.append(Event(start=STEP * step + 10, duration=40, kind="forward", **on_device))
    later = [event for event in events if event.step >= 2 and event.lane == "host:main"]
    path = write_toy(tmp_path / "run", {0: events, 1: later})
    whole = open_run(_in_small_batches(path, rows=3))
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(opening.recalled, "__kwdefaults__", {"kept_bytes": 0})
    monkeypatch.setattr(stretches, "MANY_EVENTS", 0)
    parted = open_run(path)
    assert parted.steps == (2, 3, 4, 5, 6, 7)
    for run in (whole, parted):
        (found,) = strands_of(run, [0], [(2, 3)])
        assert found[0].windows["start"].to_pylist() == [150, 250]
        assert found[0].windows["duration"].to_pylist() == [100, 100]


def _reach(windows: pa.Table) -> tuple[int, int]:
    rows = windows.to_pylist()
    return rows[0]["start"], rows[-1]["start"] + rows[-1]["duration"]


def test_a_longer_rank_has_no_more_of_it_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(opening.recalled, "__kwdefaults__", {"kept_bytes": 0})
    monkeypatch.setattr(stretches, "MANY_EVENTS", 0)
    rows: list[int] = []
    read = read_stream

    def counted(*what: Any, **how: Any) -> StreamContent:
        found = read(*what, **how)
        rows.append(found.table.num_rows)
        return found

    monkeypatch.setattr(opening, "read_stream", counted)
    most = {}
    for count in (20, 200):
        events = []
        for step in range(count):
            begin = STEP * step
            events += [Event(start=begin + n, duration=1, kind="user", step=step) for n in range(9)]
            events.append(Event(start=begin, duration=STEP, kind="step", step=step))
        run = open_run(_in_small_batches(write_toy(tmp_path / str(count), {0: events}), rows=10))
        assert isinstance(run.tables, StreamTables)
        # Its ten, the window before it, and the window and the first event of the next one.
        assert part_of(run, 0, [7]).event_count == 13
        rows.clear()
        part_of(run, 0, [count - 2])
        around_stretches(run, 0, [[4, 5], [count - 2]])
        most[count] = max(rows)
        rows.clear()
        around_stretches(run, 0, [range(count - 1)])
        assert len(rows) == 4  # spans, operations, what these reach over, all columns
    assert most == {20: 70, 200: 70}


def test_a_batch_of_a_part_is_unpacked_once(
    runs: list[tuple[Run, Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all columns; what may belong to it is looked at for its operations before."""
    read, unpacked = read_stream, list[tuple[int, ...]]()

    def noted(*what: Any, **how: Any) -> StreamContent:
        if how["batches"] is not None and "name" in how["columns"]:
            unpacked.append(tuple(how["batches"]))
        return read(*what, **how)

    for _, parted in runs:
        assert isinstance(parted.tables, StreamTables)
        parted.tables.contents(0)
    monkeypatch.setattr(opening, "read_stream", noted)
    for _, parted in runs:
        for steps in ([0], [2, 5], [3, 4, 6]):
            unpacked.clear()
            part_of(parted, 0, steps)
            batches = [batch for some in unpacked for batch in some]
            assert batches
            assert len(set(batches)) == len(batches)
