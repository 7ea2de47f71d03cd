"""What viewers draw of an export: rows, their order, arrows and counters."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from dashboard import open_run
from dashboard.export.formats import export
from dashboard.export.tracks import lay_out
from tests.support.pipeline_toy import MESSAGES, write_pipeline
from tests.support.read_back import PerfettoTrace, parse_perfetto
from tests.support.toy import Event, RankFacts, write_counters, write_run
from tests.test_repo.markdown import ROOT

SAMPLE = ROOT / "sample_traces" / "pp2-tp2-1f1b"


def perfetto(path: Path, out: Path) -> PerfettoTrace:
    export(open_run(path), "perfetto", out)
    return parse_perfetto(out)


def test_arrows_lead_from_each_send_to_the_end_of_its_receive(tmp_path: Path) -> None:
    trace = perfetto(write_pipeline(tmp_path / "run"), tmp_path / "a.pftrace")
    found = set()
    for number, ends in trace.flows.items():
        send, receive = ends
        assert (send.row["name"], receive.row["kind"]) == ("send", "wait")
        (left,), (arrived,) = (
            [time for time, n in end.flows if n == number] for end in (send, receive)
        )
        assert left == send.row["start"]
        assert arrived == receive.row["start"] + receive.row["duration"]
        found.add((receive.row["rank"], send.row["rank"], left, arrived))
    # The messages on paper: receiver, sender, sent at, end of the wait.
    assert found == {
        (receiver, sender, 1000 * sent, 1000 * end)
        for receiver, sender, _, _, _, sent, end in MESSAGES
    }


def operation(path: Path) -> Path:
    """An all_reduce of two ranks: called at 3 and 1, on rank 0's device from 4 to 9, and a kernel
    of another operation.
    """
    group: dict[str, Any] = {"group": "tp:0-1", "seq": 4}
    facts = RankFacts(coordinates={"tp": 0}, groups={"tp:0-1": {"dim": "tp", "ranks": [0, 1]}})
    call = {"kind": "collective", "name": "all_reduce", "correlation": 8, **group}
    return write_run(
        path,
        {
            0: [
                Event(start=3, duration=1, **call),
                Event(start=4, duration=5, lane="device:7 communication", **call),
                Event(start=4, duration=2, kind="kernel", name="k", lane="device:7", correlation=9),
            ],
            1: [Event(start=1, duration=8, **call)],
        },
        facts={0: facts, 1: RankFacts(coordinates={"tp": 1})},
    )


def test_arrows_join_the_members_of_a_collective_and_lead_to_the_device(tmp_path: Path) -> None:
    trace = perfetto(operation(tmp_path / "run"), tmp_path / "a.pftrace")
    arrows = [[(s.row["rank"], s.row["kind"], s.row["start"]) for s in ends]
              for ends in trace.flows.values()]  # fmt: skip
    assert sorted(arrows) == [
        # Times count from the first event.
        [(0, "collective", 2), (0, "collective", 3)],
        [(1, "collective", 0), (0, "collective", 2)],
    ]


def test_chrome_has_the_same_arrows(tmp_path: Path) -> None:
    export(open_run(operation(tmp_path / "run")), "chrome", tmp_path / "a.json")
    events = json.loads((tmp_path / "a.json").read_text())["traceEvents"]
    arrows = sorted((e["cat"], e["ph"], e["pid"], e["ts"]) for e in events if e["ph"] in "stf")
    assert arrows == [
        ("collective", "f", 0, 0.002),
        ("collective", "s", 1, 0.0),
        ("operation", "f", 0, 0.003),
        ("operation", "s", 0, 0.002),
    ]


def test_on_a_recorded_run_every_arrow_has_its_ends(tmp_path: Path) -> None:
    run = open_run(SAMPLE)
    (paired,) = (
        run.sql("select count(*) from p2p where transfer_ns is not null").to_pylist()[0].values()
    )
    (members,) = run.sql("select sum(len(members)) from collectives").to_pylist()[0].values()
    steps = set(run.steps)
    trace = perfetto(SAMPLE, tmp_path / "a.pftrace")
    arrows = [e for e in trace.flows.values() if e[0].row.get("step") in steps]
    messages = [ends for ends in arrows if ends[0].row["name"] in ("send", "recv")]
    assert Counter(len(ends) for ends in messages) == {2: paired}
    assert all(ends[0].row["name"] == "send" for ends in messages)
    assert sum(len(ends) for ends in arrows) - 2 * paired == members

    export(run, "chrome", tmp_path / "a.json")
    events = json.loads((tmp_path / "a.json").read_text())["traceEvents"]
    spans = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            begin, length = round(event["ts"] * 1000), round(event["dur"] * 1000)
            spans[event["pid"], event["tid"]].append((begin, begin + length))
    phases = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            time = round(event["ts"] * 1000)
            assert any(a <= time <= b for a, b in spans[event["pid"], event["tid"]])
            phases[event["cat"], event["id"]].append((time, event["ph"]))
    for found in phases.values():
        order = [phase for _, phase in sorted(found, key=lambda f: (f[0], "stf".index(f[1])))]
        assert order[0] == "s"
        assert order[-1] == "f"
        assert set(order[1:-1]) <= {"t"}
    assert sum(len(found) == 2 for (cat, _), found in phases.items() if cat == "message") > 500


def test_processes_are_named_by_their_place_and_in_the_order_of_the_mesh(tmp_path: Path) -> None:
    # Ranks are numbered along the other dimension first.
    facts = {rank: RankFacts(coordinates={"pp": rank % 2, "tp": rank // 2}) for rank in range(4)}
    events = {rank: [Event(start=0, duration=1, kind="forward")] for rank in range(4)}
    trace = perfetto(write_run(tmp_path / "run", events, facts=facts), tmp_path / "a.pftrace")
    assert trace.processes == {
        1: "pp=0 tp=0 · rank 0",
        3: "pp=0 tp=1 · rank 2",
        2: "pp=1 tp=0 · rank 1",
        4: "pp=1 tp=1 · rank 3",
    }
    assert list(trace.processes) == [1, 3, 2, 4]


def test_lanes_come_as_threads_and_what_crosses_gets_a_row_below(tmp_path: Path) -> None:
    lanes = ["device:7", "host:main", "host:writer"]
    events = [Event(start=0, duration=3, kind="user", lane=lane) for lane in lanes]
    events += [Event(start=2, duration=3, kind="user", lane="device:7")]
    events += [Event(start=0, duration=9, kind="step")]
    run = open_run(write_run(tmp_path / "run", {0: events}))
    titles = [track.title for track in lay_out(run.events()).tracks]
    assert titles == ["steps", "host:main", "host:writer", "device:7", "device:7 (2)"]
    trace = perfetto(run.path, tmp_path / "a.pftrace")
    assert [name for _, name in trace.threads.values()] == ["host:main", "host:writer", "device:7"]


def test_counters_have_their_unit_and_time(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", {2: [Event(start=10, duration=5, kind="user")]})
    write_counters(path, 2, [(7, "memory.allocated/bytes", 1.5), (12, "power/W", float("nan"))])
    trace = perfetto(path, tmp_path / "a.pftrace")
    (before, inside) = trace.counters
    assert before == ("pp=2 · rank 2", 0, "memory.allocated", 1.5)
    assert inside[:3] == ("pp=2 · rank 2", 5, "power")
    (user,) = trace.slices
    assert user.row["start"] == 3, "three ns after the first counter"
    export(open_run(path), "chrome", tmp_path / "a.json")
    events = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    counted = [event for event in events["traceEvents"] if event["ph"] == "C"]
    assert [(e["ts"], e["name"], e["args"]["value"]) for e in counted] == [
        (0.0, "memory.allocated/bytes", 1.5),
        (0.005, "power/W", "nan"),
    ]
