"""Bandwidth on paper: an all_reduce with a late rank, and messages with late ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboard import Run, open_run
from dashboard.analysis.communication.bandwidth import BUS_FACTORS
from tests.support.toy import Event, RankFacts, write_run

TP = "tp:0-2"


def rank_with_all_reduce(start: int, call: int, wait_end: int) -> list[Event]:
    common = {"group": TP, "seq": 0, "bytes": 4000, "count": 1000, "dtype": "float32"}
    common |= {"correlation": 1, "name": "all_reduce"}
    return [
        Event(start=0, duration=1000, kind="step"),
        Event(start=start, duration=call, kind="collective", **common),
        Event(start=start + call, duration=wait_end - start - call, kind="wait", **common),
    ]


def open_all_reduce(path: Path, ranks: tuple[int, ...] = (0, 1, 2)) -> Run:
    spans = {0: (100, 5, 200), 1: (120, 5, 200), 2: (160, 5, 200)}
    facts = {
        rank: RankFacts(coordinates={"tp": rank}, groups={TP: {"dim": "tp", "ranks": [0, 1, 2]}})
        for rank in ranks
    }
    events = {rank: rank_with_all_reduce(*spans[rank]) for rank in ranks}
    return open_run(write_run(path, events, facts=facts, world_size=3))


def test_all_reduce_on_paper(tmp_path: Path) -> None:
    row = open_all_reduce(tmp_path / "run").bandwidth().operations.to_pylist()[0]
    # Arrivals 100, 120, 160, all done at 200: seen 100, 80, 40 ns (mean 73 1/3), transfer 40 ns.
    assert (row["n"], row["bytes"], row["start"]) == (3, 4000, 100)
    assert (row["transfer_ns"], row["skew_ns"], row["culprit_rank"]) == (40, 60, 2)
    assert row["seen_ns"] == pytest.approx(220 / 3)
    assert row["algbw_skew_free"] == pytest.approx(100.0)
    assert row["busbw_skew_free"] == pytest.approx(100.0 * 4 / 3)
    assert row["algbw_seen"] == pytest.approx(4000 * 3 / 220)
    assert row["busbw_seen"] == pytest.approx(4000 * 3 / 220 * 4 / 3)


def test_a_missing_member_is_counted_and_not_guessed(tmp_path: Path) -> None:
    bandwidth = open_all_reduce(tmp_path / "run", ranks=(0, 1)).bandwidth()
    assert bandwidth.operations.num_rows == 0
    summary = bandwidth.summary.to_pylist()[0]
    assert (summary["op"], summary["count"], summary["incomplete"]) == ("all_reduce", 0, 1)
    assert summary["busbw_skew_free"] is None


def message(kind: str, start: int, end: int, *, peer: int, seq: int) -> list[Event]:
    common: dict[str, Any] = {"group": "pp:0-1", "seq": seq, "bytes": 600, "peer": peer}
    common |= {"correlation": 10 + seq, "name": kind}
    return [
        Event(start=start, duration=0, kind=kind, **common),
        Event(start=start, duration=end - start, kind="wait", **common),
    ]


def test_messages_on_paper(tmp_path: Path) -> None:
    step = Event(start=0, duration=1000, kind="step")
    # Message 0: receive posted at 10, sent at 50, received at 80: the sender is late, 30 ns.
    # Message 1: sent at 100, receive posted at 140, received at 160: the receiver is late, 20 ns.
    # Message 2: sent, and its receive is not in the trace.
    sender = [
        step,
        *message("send", 50, 60, peer=1, seq=0),
        *message("send", 100, 110, peer=1, seq=1),
        *message("send", 300, 310, peer=1, seq=2),
    ]
    receiver = [
        step,
        *message("recv", 10, 80, peer=0, seq=0),
        *message("recv", 140, 160, peer=0, seq=1),
    ]
    bandwidth = open_run(write_run(tmp_path / "run", {0: sender, 1: receiver})).bandwidth()
    first, second = bandwidth.operations.to_pylist()
    assert (first["src"], first["dst"], first["culprit_rank"]) == (0, 1, 0)
    assert (first["transfer_ns"], first["seen_ns"], first["skew_ns"]) == (30, 70.0, 40)
    assert first["busbw_skew_free"] == pytest.approx(600 / 30)
    assert (second["transfer_ns"], second["seen_ns"], second["culprit_rank"]) == (20, 20.0, 1)
    total = bandwidth.summary.to_pylist()[0]
    assert (total["op"], total["count"], total["bytes_total"], total["incomplete"]) == (
        "p2p", 2, 1200, 1,
    )  # fmt: skip
    assert total["busbw_skew_free"] == pytest.approx(1200 / 50)
    assert total["busbw_seen"] == pytest.approx(1200 / 90)


def test_records_that_cannot_be_matched_are_counted(tmp_path: Path) -> None:
    common: dict[str, Any] = {"start": 10, "duration": 5, "bytes": 8}
    events = [
        Event(start=0, duration=100, kind="step"),
        Event(kind="collective", name="all_reduce", **common),
        Event(kind="collective", name="all_reduce", group="tp:0", **common),
        Event(kind="send", name="send", group="pp:0-1", seq=0, **common),
    ]
    bandwidth = open_run(write_run(tmp_path / "run", {0: events})).bandwidth()
    assert bandwidth.operations.num_rows == 0
    summary = [(r["group"], r["op"], r["incomplete"]) for r in bandwidth.summary.to_pylist()]
    assert summary == [
        ("pp:0-1", "p2p", 1),
        ("tp:0", "all_reduce", 1),
        ("unknown", "all_reduce", 1),
    ]


def test_a_barrier_has_no_bandwidth(tmp_path: Path) -> None:
    groups = {"world:0": {"dim": "world", "ranks": [0]}}
    events = [
        Event(start=0, duration=100, kind="step"),
        Event(start=10, duration=20, kind="collective", name="barrier", group="world:0", seq=0),
    ]
    run = open_run(
        write_run(
            tmp_path / "run", {0: events}, facts={0: RankFacts(coordinates={}, groups=groups)}
        )
    )
    summary = run.bandwidth().summary.to_pylist()[0]
    assert (summary["op"], summary["count"]) == ("barrier", 1)
    assert summary["algbw_seen"] is summary["busbw_seen"] is None


@pytest.mark.parametrize(
    ("op", "factor"),
    [
        ("all_reduce", 1.5),
        ("all_gather", 0.75),
        ("reduce_scatter", 0.75),
        ("all_to_all", 0.75),
        ("gather", 0.75),
        ("scatter", 0.75),
        ("broadcast", 1.0),
        ("reduce", 1.0),
        ("p2p", 1.0),
    ],
)
def test_bus_factors_of_four_ranks(op: str, factor: float) -> None:
    assert BUS_FACTORS[op](4) == pytest.approx(factor)


def test_a_message_number_that_is_used_again_is_counted_and_not_paired(tmp_path: Path) -> None:
    common = {"group": "pp:0-1", "seq": 0, "bytes": 8}
    step = Event(start=0, duration=100, kind="step")
    sends = [
        Event(start=10 + n, duration=1, kind="send", name="send", peer=1, **common)
        for n in range(3)
    ]
    receives = [
        Event(start=20 + n, duration=1, kind="recv", name="recv", peer=0, **common)
        for n in range(2)
    ]
    run = open_run(write_run(tmp_path / "run", {0: [step, *sends], 1: [step, *receives]}))
    found = run.bandwidth()
    assert found.operations.num_rows == 1
    # Two sends and one receive too many.
    assert found.summary.to_pylist()[0]["incomplete"] == 3
