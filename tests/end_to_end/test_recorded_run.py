"""What is recorded equals what schedule and model imply, worked out here by hand.

In the plans below `F3` is a forward and `B3` a backward of microbatch 3; `>a3` sends its
activation to the next stage and `<a3` receives it from the previous one, `>g3` sends its
gradient back and `<g3` receives it from the next stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import Recorded
from tests.support.launching import SCRIPTS, torchrun
from tests.support.reading import Row, calls, facts, meta, rows

pytestmark = pytest.mark.distributed

# 1F1B of torch: stage s runs 4 - s forwards first, then a backward and a forward in turn. The
# send after a forward is issued together with the receive of the backward that follows, and the
# send after a backward together with the receive of the forward that follows.
PIPELINE_PLAN = {
    0: """F0 >a0 F1 >a1 F2 >a2 F3 >a3 <g0 B0 F4 >a4 <g1 B1 F5 >a5 <g2 B2 F6 >a6 <g3 B3
          F7 >a7 <g4 B4 <g5 B5 <g6 B6 <g7 B7""",
    1: """<a0 F0 >a0 <a1 F1 >a1 <a2 F2 >a2 <g0 B0 >g0 <a3 F3 >a3 <g1 B1 >g1 <a4 F4 >a4 <g2 B2
          >g2 <a5 F5 >a5 <g3 B3 >g3 <a6 F6 >a6 <g4 B4 >g4 <a7 F7 >a7 <g5 B5 >g5 <g6 B6 >g6
          <g7 B7 >g7""",
    2: """<a0 F0 >a0 <a1 F1 >a1 <g0 B0 >g0 <a2 F2 >a2 <g1 B1 >g1 <a3 F3 >a3 <g2 B2 >g2 <a4 F4
          >a4 <g3 B3 >g3 <a5 F5 >a5 <g4 B4 >g4 <a6 F6 >a6 <g5 B5 >g5 <a7 F7 >a7 <g6 B6 >g6
          <g7 B7 >g7""",
    3: """<a0 F0 B0 >g0 <a1 F1 B1 >g1 <a2 F2 B2 >g2 <a3 F3 B3 >g3 <a4 F4 B4 >g4 <a5 F5 B5 >g5
          <a6 F6 B6 >g6 <a7 F7 B7 >g7""",
}
PIPELINE_MESSAGE_BYTES = 4 * 32 * 4
"""4 rows of 32 float32."""

# Two stages, four microbatches. `+` is the all_reduce over the tensor-parallel pair: one after
# the row-parallel layer of every forward; one in every backward of stage 1, for the gradient of
# the column-parallel layer's input. Stage 0's input is data and needs no gradient.
TENSOR_PLAN = {
    0: "F0 + >a0 F1 + >a1 <g0 B0 F2 + >a2 <g1 B1 F3 + >a3 <g2 B2 <g3 B3",
    1: "<a0 F0 + B0 + >g0 <a1 F1 + B1 + >g1 <a2 F2 + B2 + >g2 <a3 F3 + B3 + >g3",
}
TENSOR_MESSAGE_BYTES = 4 * 32 * 4
STEPS = (0, 1, 2)


def _is_no_setup(row: Row) -> bool:
    """In its first step torch infers shapes and exchanges them: operations of no microbatch."""
    return row["step"] != 0 or row["microbatch"] is not None


def _as_plan(run: Path, rank: int, step: int, *, stage: int, next_rank: int) -> str:
    """The calls and actions of a rank in the notation of the plans, in the order of starts."""
    words = []
    for row in rows(run, rank, step=step):
        if not row["lane"].startswith("host:") or not _is_no_setup(row):
            continue
        if row["kind"] in ("forward", "backward"):
            assert (row["stage"], row["name"]) == (stage, row["kind"][0].upper())
            words.append(f"{row['name']}{row['microbatch']}")
        elif row["kind"] in ("send", "recv"):
            assert row["stage"] == stage
            towards_next = row["peer"] == next_rank
            what = "a" if towards_next == (row["kind"] == "send") else "g"
            words.append(f"{'>' if row['kind'] == 'send' else '<'}{what}{row['microbatch']}")
        elif row["kind"] == "collective":
            words.append("+")
    return " ".join(words)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rank", range(4))
def test_pipeline_runs_1f1b_in_its_order(
    recorded_runs: Mapping[str, Path], rank: int, step: int
) -> None:
    seen = _as_plan(recorded_runs["pp4-1f1b"], rank, step, stage=rank, next_rank=rank + 1)

    assert seen == " ".join(PIPELINE_PLAN[rank].split())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rank", range(4))
def test_tensor_parallel_pipeline_runs_in_its_order(
    recorded_runs: Mapping[str, Path], rank: int, step: int
) -> None:
    stage = rank // 2
    seen = _as_plan(recorded_runs["pp2-tp2"], rank, step, stage=stage, next_rank=rank + 2)

    assert seen == TENSOR_PLAN[stage]


@pytest.mark.parametrize("rank", range(4))
def test_pipeline_messages_carry_peer_payload_and_group(
    recorded_runs: Mapping[str, Path], rank: int
) -> None:
    """Inner stages talk to both neighbours, 8 messages each way; the ends to one."""
    seen: dict[tuple[str, int], int] = {}
    for row in calls(recorded_runs["pp4-1f1b"], rank, step=1):
        assert row["name"] == row["kind"]
        assert (row["group"], row["dtype"]) == ("pp:0-3", "float32")
        assert (row["bytes"], row["count"]) == (PIPELINE_MESSAGE_BYTES, 4 * 32)
        seen[row["kind"], row["peer"]] = seen.get((row["kind"], row["peer"]), 0) + 1
    neighbours = [peer for peer in (rank - 1, rank + 1) if 0 <= peer < 4]

    assert seen == {(kind, peer): 8 for kind in ("send", "recv") for peer in neighbours}


def test_every_send_has_its_receive_with_the_same_number(
    recorded_runs: Mapping[str, Path],
) -> None:
    for name, groups in (("pp4-1f1b", {"pp:0-3"}), ("pp2-tp2", {"pp:0,2", "pp:1,3"})):
        ends: dict[str, dict[tuple[str, int, int, int], tuple[int, str]]] = {"send": {}, "recv": {}}
        for rank in range(4):
            for row in calls(recorded_runs[name], rank):
                if row["kind"] == "collective":
                    continue
                pair = (rank, row["peer"]) if row["kind"] == "send" else (row["peer"], rank)
                key = (row["group"], *pair, row["seq"])
                assert key not in ends[row["kind"]]
                ends[row["kind"]][key] = row["bytes"], row["dtype"]

        assert {key[0] for key in ends["send"]} == groups
        assert ends["send"] == ends["recv"]
        numbers: dict[tuple[str, int, int], set[int]] = {}
        for group, source, destination, seq in ends["send"]:
            numbers.setdefault((group, source, destination), set()).add(seq)
        assert all(found == set(range(len(found))) for found in numbers.values())


@pytest.mark.parametrize("rank", range(4))
def test_tensor_parallel_collectives(recorded_runs: Mapping[str, Path], rank: int) -> None:
    pair = "tp:0-1" if rank < 2 else "tp:2-3"
    found = [
        row for row in calls(recorded_runs["pp2-tp2"], rank, step=2) if row["kind"] == "collective"
    ]

    assert {(r["name"], r["group"], r["bytes"], r["count"], r["dtype"]) for r in found} == {
        ("all_reduce", pair, TENSOR_MESSAGE_BYTES, 4 * 32, "float32")
    }
    assert [row["seq"] for row in found] == list(
        range(found[0]["seq"], found[0]["seq"] + len(found))
    )
    assert all(row["peer"] is None for row in found)


def test_members_agree_on_the_number_of_each_collective(
    recorded_runs: Mapping[str, Path],
) -> None:
    seen = [
        [
            (row["group"], row["seq"], row["name"], row["bytes"], row["step"])
            for row in calls(recorded_runs["pp2-tp2"], rank)
            if row["kind"] == "collective"
        ]
        for rank in range(4)
    ]

    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert [number for _, number, *_ in seen[0]] == list(range(len(seen[0])))


def test_distributing_the_parameters_is_recorded_before_the_first_step(
    recorded_runs: Mapping[str, Path],
) -> None:
    """up.weight and up.bias by column, down.weight by row are scattered; down.bias is copied."""
    found = [
        (row["name"], row["bytes"])
        for row in calls(recorded_runs["pp2-tp2"], 0)
        if row["step"] is None
    ]

    assert found == [
        ("scatter", 64 * 32 * 4),
        ("scatter", 64 * 4),
        ("scatter", 32 * 64 * 4),
        ("broadcast", 32 * 4),
    ]


@pytest.mark.parametrize("name", ["pp4-1f1b", "pp2-tp2"])
def test_every_operation_is_waited_for_once_and_the_wait_says_for_what(
    recorded_runs: Mapping[str, Path], name: str
) -> None:
    """Except in torch's shape inference (step 0): nobody looks at the results there."""
    same = ("name", "group", "seq", "peer", "bytes", "count", "dtype", "stage", "microbatch")
    for rank in range(4):
        issued = {
            row["correlation"]: row for row in calls(recorded_runs[name], rank) if _is_no_setup(row)
        }
        waits = [row for row in rows(recorded_runs[name], rank, kind="wait") if _is_no_setup(row)]

        assert issued
        assert sorted(row["correlation"] for row in waits) == sorted(issued)
        for wait in waits:
            call = issued[wait["correlation"]]
            assert [wait[field] for field in same] == [call[field] for field in same]
            assert wait["start"] >= call["start"] + call["duration"]


@pytest.mark.parametrize("name", ["pp4-1f1b", "pp2-tp2"])
def test_collectives_lie_inside_the_action_that_they_belong_to(
    recorded_runs: Mapping[str, Path], name: str
) -> None:
    for rank in range(4):
        actions = [
            row for row in rows(recorded_runs[name], rank) if row["kind"] in ("forward", "backward")
        ]
        for row in calls(recorded_runs[name], rank):
            if row["kind"] != "collective" or row["microbatch"] is None:
                continue
            around = [
                action
                for action in actions
                if action["start"] <= row["start"]
                and row["start"] + row["duration"] <= action["start"] + action["duration"]
            ]
            assert [(a["stage"], a["microbatch"]) for a in around] == [
                (row["stage"], row["microbatch"])
            ]


@pytest.mark.parametrize(
    ("name", "optimizer"), [("pp4-1f1b", "Adam.step"), ("pp2-tp2", "SGD.step")]
)
def test_steps_tile_and_hold_one_optimizer_step_each(
    recorded_runs: Mapping[str, Path], name: str, optimizer: str
) -> None:
    for rank in range(4):
        windows = rows(recorded_runs[name], rank, kind="step")
        optimizers = rows(recorded_runs[name], rank, kind="optimizer")

        assert [(row["step"], row["name"], row["lane"]) for row in windows] == [
            (step, "step", "host:main") for step in STEPS
        ]
        assert [(row["step"], row["name"]) for row in optimizers] == [
            (step, optimizer) for step in STEPS
        ]
        for before, after in pairwise(windows):
            assert before["start"] + before["duration"] == after["start"]
        for window, inside in zip(windows, optimizers, strict=True):
            assert window["start"] <= inside["start"]
            assert inside["start"] + inside["duration"] <= window["start"] + window["duration"]


def test_run_json_holds_mesh_schedule_and_plan(recorded_runs: Mapping[str, Path]) -> None:
    pipeline, tensor = meta(recorded_runs["pp4-1f1b"]), meta(recorded_runs["pp2-tp2"])

    assert pipeline["mesh"] == {
        "names": ["pp"],
        "shape": [4],
        "coordinates": {"0": [0], "1": [1], "2": [2], "3": [3]},
    }
    assert tensor["mesh"] == {
        "names": ["pp", "tp"],
        "shape": [2, 2],
        "coordinates": {"0": [0, 0], "1": [0, 1], "2": [1, 0], "3": [1, 1]},
    }
    schedule = pipeline["schedule"]
    assert {key: value for key, value in schedule.items() if key != "plan"} == {
        "name": "Schedule1F1B",
        "stages": 4,
        "microbatches": 8,
        "virtual_stages": 1,
        "pipeline_size": 4,
    }
    assert pipeline["config"]["script"] == "pipeline.py"
    assert pipeline["world_size"] == tensor["world_size"] == 4


def test_the_plan_of_every_rank_is_what_it_then_ran(recorded_runs: Mapping[str, Path]) -> None:
    plan = meta(recorded_runs["pp4-1f1b"])["schedule"]["plan"]
    for rank in range(4):
        by_hand = [f"{rank}{word}" for word in PIPELINE_PLAN[rank].split() if word[0] in "FB"]

        assert plan[str(rank)] == by_hand


def test_each_rank_says_where_it_stands(recorded_runs: Mapping[str, Path]) -> None:
    of_rank = [facts(recorded_runs["pp2-tp2"], rank) for rank in range(4)]

    assert [one["coordinates"] for one in of_rank] == [
        {"pp": pp, "tp": tp} for pp in (0, 1) for tp in (0, 1)
    ]
    assert [one["stages"] for one in of_rank] == [[0], [0], [1], [1]]
    assert of_rank[3]["groups"] == {
        "tp:2-3": {"dim": "tp", "ranks": [2, 3]},
        "pp:1,3": {"dim": "pp", "ranks": [1, 3]},
    }
    assert {(one["ended"], one["dropped"]) for one in of_rank} == {("closed", 0)}
    assert len({one["run_id"] for one in of_rank}) == 1
    assert len({one["pid"] for one in of_rank}) == 4


@pytest.mark.parametrize(
    ("name", "script"), [("pp4-1f1b", "pipeline.py"), ("pp2-tp2", "pipeline_and_tensor.py")]
)
def test_parameters_are_bit_identical_to_those_of_an_untraced_training(
    recordings: Mapping[str, Recorded], tmp_path: Path, name: str, script: str
) -> None:
    torchrun(4, SCRIPTS / script, tmp_path)

    untraced = tuple((tmp_path / f"rank-{rank}.bin").read_bytes() for rank in range(4))
    assert recordings[name].parameters == untraced
    assert "rankscope" not in recordings[name].stderr
