"""Integrity: the sound run is sound, and each kind of damage is found and named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.whole_run.integrity import violations
from tests.support.pipeline_toy import GROUP, SCHEDULE, STEP_END, step_events, write_pipeline
from tests.support.toy import Event, RankFacts, write_run

SAMPLES = Path(__file__).parents[4] / "sample_traces"

Events = dict[int, list[Event]]


def said(path: Path, events: Events) -> list[tuple[str, int | None, str]]:
    facts = {
        rank: RankFacts(
            coordinates={"pp": rank},
            stages=(rank,),
            groups={
                GROUP: {"dim": "pp", "ranks": [0, 1, 2]},
                "dp:0-2": {"dim": "dp", "ranks": [0, 1, 2]},
            },
        )
        for rank in events
    }
    run = open_run(write_run(path, events, facts=facts, schedule=SCHEDULE))
    return [(v.check, v.rank, v.text) for v in violations(run)]


def test_the_paper_pipeline_is_sound(tmp_path: Path) -> None:
    assert violations(open_run(write_pipeline(tmp_path / "run", steps=3))) == []


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*/run.json")), ids=lambda p: p.parent.name)
def test_recorded_runs_are_sound(sample: Path) -> None:
    assert violations(open_run(sample.parent)) == []


def test_an_action_that_the_plan_has_not(tmp_path: Path) -> None:
    events = step_events()
    events[1] = [
        dataclasses.replace(e, microbatch=0) if e.kind == "forward" else e for e in events[1]
    ]
    assert said(tmp_path / "run", events) == [
        ("plan", 1, "step 0: action 1 should be 1F1, recorded is 1F0")
    ]


def test_an_action_too_few(tmp_path: Path) -> None:
    events = step_events()
    last = max(e.start for e in events[2] if e.kind == "backward")
    events[2] = [e for e in events[2] if e.kind != "backward" or e.start != last]
    assert said(tmp_path / "run", events) == [
        ("plan", 2, "step 0: action 3 should be 2B1, recorded is nothing more")
    ]


def test_a_send_without_its_receive(tmp_path: Path) -> None:
    events = step_events()
    events[2] = [e for e in events[2] if e.kind not in ("recv", "wait")]
    assert said(tmp_path / "run", events) == [
        (
            "messages",
            2,
            f"{GROUP}: no receive of message 0 from rank 1 to 2 (the first of its kind)",
        )
    ]


def collective(rank_start: int, seq: int, name: str = "all_reduce", size: int = 64) -> Event:
    return Event(
        start=rank_start, duration=5, kind="collective", name=name, group="dp:0-2", seq=seq,
        bytes=size, correlation=1000 + seq,
    )  # fmt: skip


def test_a_rank_that_skipped_a_collective_is_named(tmp_path: Path) -> None:
    events = step_events()
    for rank, calls in ((0, 3), (1, 2), (2, 3)):
        events[rank] += [collective(106 + 6 * seq, seq) for seq in range(calls)]
    assert said(tmp_path / "run", events) == [
        (
            "collectives",
            1,
            "dp:0-2 #2 in step 0: all_reduce of 64 B on ranks 0,2; did not arrive: rank 1; "
            "the last of rank 1 is #1",
        )
    ]


def test_members_that_call_different_operations(tmp_path: Path) -> None:
    events = step_events()
    for rank, name in ((0, "all_reduce"), (1, "all_gather"), (2, "all_reduce")):
        events[rank].append(collective(110, 0, name))
    (check, rank, text) = said(tmp_path / "run", events)[0]
    assert (check, rank) == ("collectives", None)
    assert text == (
        "dp:0-2 #0 in step 0: the members called different operations: "
        "all_reduce of 64 B on ranks 0,2; all_gather of 64 B on rank 1"
    )


def test_a_gap_between_steps(tmp_path: Path) -> None:
    events = step_events()
    for rank, later in step_events(1, at=STEP_END + 7).items():
        events[rank] += later
    assert [v for v in said(tmp_path / "run", events) if v[0] == "steps"] == [
        ("steps", rank, "7 ns between the end of step 0 and the next one's start")
        for rank in (0, 1, 2)
    ]


def test_a_message_received_before_it_is_sent(tmp_path: Path) -> None:
    events = step_events()
    events[0] = [
        dataclasses.replace(e, start=e.start + 40) if e.kind == "send" and e.seq == 0 else e
        for e in events[0]
    ]
    (check, rank, text) = said(tmp_path / "run", events)[0]
    assert (check, rank) == ("clock", None)
    # Sent at 10 + 40, received at 11.
    assert "1 of 8 messages are received before they are sent, by up to 0.0 µs" in text


def test_missing_files_are_findings(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "run")
    (path / "rank-00002.arrows").unlink()
    found = violations(open_run(path))
    assert [(v.check, v.rank) for v in found] == [("files", 2)]


def test_command(tmp_path: Path) -> None:
    from tests.dashboard.cli.test_commands import rankscope

    path = write_pipeline(tmp_path / "run", steps=2)
    done = rankscope("check", str(path))
    assert (done.returncode, done.stdout) == (0, "run: no findings in 3 ranks\n")
    (path / "rank-00002.arrows").unlink()
    done = rankscope("check", str(path))
    assert done.returncode == 1
    assert "rank 2: files: rank-00002.arrows: missing" in done.stdout


def test_operations_without_a_group_are_not_matched_with_others(tmp_path: Path) -> None:
    events = step_events()
    for group in (None, "dp:0-2"):
        call = Event(
            start=125, duration=1, kind="collective", name="all_reduce", group=group, seq=0, bytes=8
        )
        events[0].append(call)
    assert said(tmp_path / "run", events) == [
        (
            "collectives",
            None,
            "dp:0-2 #0 in step 0: all_reduce of 8 B on rank 0; did not arrive: ranks 1-2",
        )
    ]
