"""Opening runs: what is good is there, what is bad is named, and nothing ends in a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from dashboard import open_run
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.errors import NewerFormat, RankscopeError, TraceError
from tracer.schema import EVENT_SCHEMA, file_metadata


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "run", steps=2)


def said(path: Path) -> list[str]:
    return [str(problem) for problem in open_run(path).problems]


def test_a_good_run_has_no_problems(path: Path) -> None:
    run = open_run(path)
    assert (run.ranks, run.steps, run.problems) == ((0, 1, 2), (0, 1), ())
    assert (run.clock.method, run.clock.bound_ns) == ("one clock", 0)
    assert run.name == "run"
    assert run.duration_ns == 260_000


def test_events_are_sorted_filtered_and_begin_at_zero(tmp_path: Path) -> None:
    rows = [
        Event(start=70, duration=5, kind="backward", step=1),
        Event(start=50, duration=5, kind="forward", step=0),
        Event(start=60, duration=5, kind="forward", step=1),
    ]
    run = open_run(write_run(tmp_path / "run", {0: rows, 1: rows[:1]}))
    assert run.events()["start"].to_pylist() == [0, 10, 20, 20]
    chosen = run.events(ranks=[0], steps=[1], kinds=["forward"], columns=["start", "kind"])
    assert chosen.to_pylist() == [{"rank": 0, "start": 10, "kind": "forward"}]
    assert run.events(ranks=[]).num_rows == 0


def test_events_of_some_lanes(tmp_path: Path) -> None:
    rows = [
        Event(start=start, duration=5, kind="forward", step=0, lane=lane)
        for start, lane in enumerate(("host:main", "device:7", "host:9", "device:13"))
    ]
    run = open_run(write_run(tmp_path / "run", {0: rows}))
    on_device = run.events(columns=["start"], lanes=lambda lane: lane.startswith("device:"))
    assert on_device["start"].to_pylist() == [1, 3]


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere: no such run directory; check the path"):
        open_run(tmp_path / "nowhere")


def test_a_file_instead_of_a_directory(path: Path) -> None:
    with pytest.raises(TraceError, match=r"run.json: is a file; name the run directory"):
        open_run(path / "run.json")


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no rank-00000\.arrows .* record a run with"):
        open_run(tmp_path)


def test_missing_rank_is_named_and_the_rest_is_shown(path: Path) -> None:
    (path / "rank-00001.arrows").unlink()
    run = open_run(path)
    assert run.ranks == (0, 2)
    assert said(path) == [
        "rank-00001.arrows: missing; copy it here from the host of this rank. The others are shown"
    ]
    assert run.accounting().table.num_rows > 0
    assert run.bubbles().ranks.num_rows > 0
    assert run.bandwidth().summary["incomplete"].to_pylist() != [0]


def test_without_run_json_the_ranks_say_how_many_they_are(path: Path) -> None:
    """Rank 0 was killed before it wrote, and the last one before it began."""
    (path / "run.json").unlink()
    (path / "rank-00000.arrows").unlink()
    facts = json.loads((path / "rank-00001.json").read_text())
    (path / "rank-00001.json").write_text(json.dumps(facts | {"world_size": 5}))
    missing = [line.split(":")[0] for line in said(path) if "copy it here" in line]

    assert open_run(path).meta.world_size == 5
    assert any("mesh, schedule and config are unknown" in line for line in said(path))
    assert missing == ["rank-00000.arrows", "rank-00003.arrows", "rank-00004.arrows"]


def test_missing_run_json(path: Path) -> None:
    (path / "run.json").unlink()
    run = open_run(path)
    assert run.ranks == (0, 1, 2)
    assert run.meta.schedule is None
    assert "run.json: missing (rank 0 writes it)" in said(path)[0]


def test_where_nothing_tells_how_many_ranks_there_were_that_is_said(path: Path) -> None:
    """All were killed as they began: of this one there is an empty file, of others nothing."""
    for file in path.glob("*.json"):
        file.unlink()
    assert "mesh, schedule, config and world size are unknown" in said(path)[0]


def test_missing_facts_of_a_rank(path: Path) -> None:
    (path / "rank-00002.json").unlink()
    assert "rank-00002.json: missing; host, stages and groups are unknown" in said(path)[0]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rank": "x"}', '{"rank":0}'])
def test_damaged_facts_of_a_rank(path: Path, content: str) -> None:
    (path / "rank-00002.json").write_text(content)
    assert said(path)[0].startswith("rank-00002.json: ")


@pytest.mark.parametrize(
    "content", ["", "{", "null", '{"format": "other"}', '{"format_version":1}']
)
def test_damaged_run_json_is_named_and_the_ranks_are_shown(path: Path, content: str) -> None:
    (path / "run.json").write_text(content)
    assert open_run(path).ranks == (0, 1, 2)
    assert said(path)[0].startswith("run.json: ")


def test_truncated_rank_is_named_and_the_rest_is_shown(path: Path) -> None:
    file = path / "rank-00001.arrows"
    file.write_bytes(file.read_bytes()[:-200])
    run = open_run(path)
    assert {0, 2} <= set(run.ranks)
    assert said(path)[0].startswith("rank-00001.arrows: ")


def test_empty_rank_file(path: Path) -> None:
    (path / "rank-00001.arrows").write_bytes(b"")
    assert open_run(path).ranks == (0, 2)
    assert "died before its first flush); this rank is left out" in said(path)[0]


def test_no_readable_rank(path: Path) -> None:
    for file in path.glob("rank-*.arrows"):
        file.write_bytes(b"not arrow")
    with pytest.raises(TraceError, match=r"no rank file is readable: rank-00000\.arrows"):
        open_run(path)


def test_two_runs_in_one_directory(path: Path, tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=1, kind="step")]}
    other = write_run(tmp_path / "other", {1: events[0]}, run_id="other")
    shutil.copy(other / "rank-00001.arrows", path / "rank-00001.arrows")
    with pytest.raises(TraceError, match=r"rank-00000\.arrows is of run toy.*rank-00001\.arrows"):
        open_run(path)


def test_run_json_of_another_run(path: Path) -> None:
    raw = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(raw | {"run_id": "other"}))
    with pytest.raises(TraceError, match=r"run\.json is of run other.*two runs in one directory"):
        open_run(path)


def test_facts_of_another_run(path: Path) -> None:
    file = path / "rank-00001.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"run_id": "other"}))
    with pytest.raises(TraceError, match=r"rank-00001\.json is of run other.*00001\.arrows of run"):
        open_run(path)


def test_a_rank_under_the_name_of_another_is_not_counted_twice(path: Path) -> None:
    shutil.copy(path / "rank-00000.arrows", path / "rank-00001.arrows")
    assert open_run(path).ranks == (0, 2)
    assert "rank-00001.arrows: holds the events of rank 0; copy the file of rank 1" in said(path)[0]


def test_facts_under_the_name_of_another_rank_are_not_believed(path: Path) -> None:
    shutil.copy(path / "rank-00000.json", path / "rank-00001.json")
    assert open_run(path).facts[1].stages == ()
    assert "rank-00001.json: holds the facts of rank 0; host, stages" in said(path)[0]


def test_foreign_arrow_file(path: Path) -> None:
    schema = pa.schema([("x", pa.int64())])
    with ipc.new_stream(path / "rank-00001.arrows", schema) as writer:
        writer.write_table(pa.table({"x": [1]}))
    assert open_run(path).ranks == (0, 2)
    assert "was not written by Rankscope" in said(path)[0]


def test_newer_formats_are_refused(path: Path) -> None:
    raw = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(raw | {"format_version": 99}))
    with pytest.raises(NewerFormat, match=r"format version 99.*pip install -U rankscope"):
        open_run(path)
    metadata = file_metadata("events", run_id="toy", rank=1)
    schema = EVENT_SCHEMA.with_metadata(metadata | {b"rankscope.format_version": b"99"})
    (path / "run.json").write_text(json.dumps(raw))
    ipc.new_stream(path / "rank-00001.arrows", schema).close()
    with pytest.raises(NewerFormat, match=r"rank-00001\.arrows: format version 99"):
        open_run(path)


def test_drops_and_early_ends_are_said(path: Path) -> None:
    for rank, change in ((0, {"dropped": 1234}), (1, {"ended": None}), (2, {"ended": "failed: x"})):
        file = path / f"rank-0000{rank}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    first, second, third = said(path)
    assert "1,234 events were dropped" in first
    assert "still recording, or it was killed" in second
    assert "tracing ended early: failed: x" in third


def test_hosts_are_aligned_on_the_ends_of_collectives(tmp_path: Path) -> None:
    # Host b's clock is 1,000 behind: both collectives end at 50 and 90 of host a's clock.
    def rows(shift: int, jitter: int) -> list[Event]:
        common = {"kind": "collective", "name": "all_reduce", "group": "dp:0-1"}
        return [
            Event(start=10 - shift, duration=40, seq=0, correlation=1, **common),
            Event(start=60 - shift, duration=30 + jitter, seq=1, correlation=2, **common),
        ]

    facts = {
        0: RankFacts(coordinates={"dp": 0}, boot_id="a"),
        1: RankFacts(coordinates={"dp": 1}, boot_id="b"),
    }
    run = open_run(write_run(tmp_path / "run", {0: rows(0, 0), 1: rows(1000, 4)}, facts=facts))
    assert run.clock.method == "ends of collectives"
    # Each ends on both after it began on both. On paper, for the offset of b:
    #   number 0: ends apart by 1,000, from 10 + 950 to 50 + 990: within 960 .. 1,040
    #   number 1: ends apart by 996, from 60 + 906 to 90 + 940: within 966 .. 1,030, the tighter one
    clock = run.clock.maps[1]
    assert int(clock.to_common(np.array([-1000]))[0]) == -4
    assert run.clock.bound_ns == 35  # 34, and what the drift may be over 84 ns
    assert (run.clock.checked, run.clock.violations) == (2, 0)
    assert "aligned on the ends of collectives, to within 0.0 µs" in str(run.problems[0])


def test_hosts_without_common_collectives_are_not_aligned_and_say_so(tmp_path: Path) -> None:
    facts = {r: RankFacts(coordinates={}, boot_id=str(r)) for r in (0, 1)}
    rows = [Event(start=0, duration=1, kind="forward")]
    run = open_run(write_run(tmp_path / "run", {0: rows, 1: rows}, facts=facts))
    assert (run.clock.method, run.clock.bound_ns) == ("none", None)
    assert "times of different ranks do not compare" in str(run.problems[0])


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_an_error_of_ours_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write_pipeline(tmp_path_factory.mktemp("damage") / "run")
    name = data.draw(st.sampled_from(sorted(p.name for p in path.iterdir())))
    content = bytearray((path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    keep = data.draw(st.integers(0, len(content)))
    (path / name).write_bytes(content[:keep])
    assert str(path) in failure(path, default=str(path))


def failure(path: Path, *, default: str) -> str:
    """The message of our error, `default` if the run opens; any other error is a defect."""
    try:
        open_run(path).events()
    except RankscopeError as error:
        return str(error)
    return default
