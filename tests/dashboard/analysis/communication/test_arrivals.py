"""Who did not arrive at which collective, and what a file that is not whole cannot tell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dashboard import open_run
from dashboard.analysis.whole_run.integrity import violations
from tests.support.toy import Event, RankFacts, write_run

GROUP = "dp:0-2"
MS = 1_000_000


def _call(time: int, seq: int, *, step: int | None = 0, name: str = "all_reduce") -> Event:
    """At `time` ms, for 1 ms."""
    return Event(
        start=time, duration=1, kind="collective", name=name, group=GROUP, seq=seq, step=step,
        bytes=64, correlation=seq + 1,
    )  # fmt: skip


def _said(path: Path, calls: dict[int, list[Event]], **of_rank_1: object) -> list[str]:
    """What `check` says of collectives and messages; rank 1's facts may be changed."""
    known = RankFacts(coordinates={}, groups={GROUP: {"dim": "dp", "ranks": [0, 1, 2]}})
    facts = dict.fromkeys(calls, known)
    facts[1] = dataclasses.replace(known, **of_rank_1)
    run = open_run(write_run(path, calls, facts=facts, scale=MS))
    return [v.text for v in violations(run) if v.check in ("collectives", "messages")]


def _three(first: int = 0, last: int = 9) -> dict[int, list[Event]]:
    """Ten collectives, one per 100 ms; rank 1 has those from `first` to `last`."""
    whole = [_call(100 * seq, seq) for seq in range(10)]
    return {0: whole, 1: whole[first : last + 1], 2: whole}


def test_all_arrived(tmp_path: Path) -> None:
    assert _said(tmp_path / "run", _three()) == []


def test_the_first_at_which_one_is_missing_is_named(tmp_path: Path) -> None:
    assert _said(tmp_path / "run", _three(last=6)) == [
        "dp:0-2 #7 in step 0: all_reduce of 64 B on ranks 0,2; did not arrive: rank 1; "
        "the last of rank 1 is #6"
    ]


def test_a_window_that_begins_later_lacks_nothing(tmp_path: Path) -> None:
    """A black box keeps the last steps, and not every rank begins with the same one."""
    assert _said(tmp_path / "run", _three(first=3)) == []
    found = _said(tmp_path / "both", _three(first=3, last=7))
    assert found[0].startswith("dp:0-2 #8 in step 0: all_reduce of 64 B on ranks 0,2; did not")


def test_what_a_killed_rank_did_after_its_last_flush_is_not_known(tmp_path: Path) -> None:
    """Flushed at 850 ms, less 100 of slack: it did not arrive at #7, which ended at 701."""
    killed = {"ended": None, "last_flush": 850}

    assert _said(tmp_path / "a", _three(last=7), **killed) == []
    found = _said(tmp_path / "b", _three(last=6), **killed)
    assert found[0].startswith("dp:0-2 #7 in step 0")
    assert _said(tmp_path / "c", _three(last=6), ended=None) == []  # and no counters at all


def test_where_events_were_dropped_nothing_is_missed(tmp_path: Path) -> None:
    assert _said(tmp_path / "run", _three(last=6), dropped=4) == []


def test_a_rank_that_skipped_one_is_out_of_step_from_there_on(tmp_path: Path) -> None:
    """Two per step; rank 1 leaves out the second of step 1, so that its #3 is in step 2."""
    whole = [_call(100 * seq, seq, step=seq // 2) for seq in range(8)]
    steps = [0, 0, 1, 2, 2, 3, 3]
    skipped = [_call(100 * seq, seq, step=step) for seq, step in enumerate(steps)]

    assert _said(tmp_path / "run", {0: whole, 1: skipped, 2: whole}) == [
        "dp:0-2 #7 in step 3: all_reduce of 64 B on ranks 0,2; did not arrive: rank 1; "
        "the last of rank 1 is #6; "
        "out of step since #3: step 1 on ranks 0,2, step 2 on rank 1"
    ]


def test_the_same_number_twice_is_a_defect_of_the_recording(tmp_path: Path) -> None:
    calls = _three()
    calls[2] = [*calls[2], _call(950, 4)]

    assert _said(tmp_path / "run", calls) == ["dp:0-2 #4 is recorded twice"]


def test_a_message_before_the_window_or_after_the_last_flush_is_not_missed(tmp_path: Path) -> None:
    def message(kind: str, rank: int, time: int, seq: int) -> Event:
        return Event(
            start=time, duration=1, kind=kind, name=kind, group=GROUP, seq=seq, peer=1 - rank,
            correlation=100 + seq,
        )  # fmt: skip

    sends = [message("send", 0, 100 * seq, seq) for seq in range(10)]
    receives = [message("recv", 1, 100 * seq + 2, seq) for seq in range(3, 8)]
    run = {0: sends, 1: receives, 2: []}

    assert _said(tmp_path / "a", run, ended=None, last_flush=850) == []
    assert _said(tmp_path / "b", run) == [
        "dp:0-2: no receive of message 8 from rank 0 to 1 (the first of its kind)"
    ]


def test_clocks_that_are_far_apart_are_said(tmp_path: Path) -> None:
    """Two hosts that are told by collectives of 40 ms: to within 40 ms, no better."""
    calls = [dataclasses.replace(_call(100 * seq, seq), duration=40) for seq in range(3)]
    facts = {rank: RankFacts(coordinates={}, boot_id=str(rank)) for rank in (0, 1)}
    run = open_run(write_run(tmp_path / "run", {0: calls, 1: calls}, facts=facts, scale=MS))
    found = [v.text for v in violations(run) if v.check == "clock"]

    assert len(found) == 1
    assert found[0].startswith("times of different hosts compare only to within 40.")
