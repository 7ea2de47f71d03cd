"""Every schedule of torch: each action once, and every message between the ranks on both ends."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.pipeline.plans import KIND_OF, in_flight, plan
from tests.support.launching import SCRIPTS, torchrun
from tests.support.reading import calls, facts, meta, rows

pytestmark = pytest.mark.distributed

MICROBATCHES = 4
MESSAGE_BYTES = 2 * 8 * 4
"""2 rows of 8 float32."""

# Stages of rank 0 and of rank 1, as the script places them.
IN_TURN, IN_A_V, ONE_EACH = ((0, 2), (1, 3)), ((0, 3), (1, 2)), ((0,), (1,))
PLACEMENTS = {
    "GPipe": ONE_EACH,
    "1F1B": ONE_EACH,
    "Interleaved1F1B": IN_TURN,
    "LoopedBFS": IN_TURN,
    "InterleavedZeroBubble": IN_TURN,
    "ZBVZeroBubble": IN_A_V,
    "DualPipeV": IN_A_V,
}
SPLITS_BACKWARDS = ("InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")
EACH = pytest.mark.parametrize("name", PLACEMENTS)
STEP = 1
"""The second one: in its first step torch also exchanges shapes."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("schedules")
    torchrun(2, SCRIPTS / "schedules.py", directory)
    return directory


def _actions(run: Path, rank: int) -> list[str]:
    """In torch's notation, in the order in which they ran: stage, kind, microbatch."""
    kinds = ("forward", "backward", "backward_input", "backward_weight")
    return [
        f"{row['stage']}{row['name']}{row['microbatch']}"
        for row in rows(run, rank, step=STEP)
        if row["kind"] in kinds
    ]


@EACH
def test_every_stage_works_on_every_microbatch_once(runs: Path, name: str) -> None:
    for rank, stages in enumerate(PLACEMENTS[name]):
        ran = Counter(_actions(runs / name, rank))
        for stage in stages:
            for microbatch in range(MICROBATCHES):
                forward, full, part_input, part_weight = (
                    ran.pop(f"{stage}{kind}{microbatch}", 0) for kind in "FBIW"
                )
                assert forward == 1
                assert (full, part_input, part_weight) in ((1, 0, 0), (0, 1, 1))
        assert not ran


@pytest.mark.parametrize("name", SPLITS_BACKWARDS)
def test_zero_bubble_schedules_split_some_backwards(runs: Path, name: str) -> None:
    kinds = {
        action.rstrip("0123456789")[-1] for rank in (0, 1) for action in _actions(runs / name, rank)
    }

    assert {"I", "W"} <= kinds


@EACH
def test_the_plan_in_run_json_is_what_ran(runs: Path, name: str) -> None:
    plan = meta(runs / name)["schedule"]["plan"]
    for rank in (0, 1):
        planned = [part for action in plan[str(rank)] for part in _computations(action)]

        assert planned == _actions(runs / name, rank)


def _computations(action: str) -> list[str]:
    """`(0F1;3B0)OVERLAP_F_B` stands for two computations; `0UNSHARD` for none."""
    if action.startswith("("):
        return action[1 : action.index(")")].split(";")
    return [action] if action.lstrip("0123456789")[0] in "FBIW" and action[-1].isdigit() else []


@EACH
def test_a_generated_plan_is_what_ran_and_held(runs: Path, name: str) -> None:
    """Ours (analysis/pipeline/plans.py), which is made without torch; and its microbatches."""
    made = plan(f"Schedule{name}", p=2, m=MICROBATCHES, v=len(PLACEMENTS[name][0]))
    held = open_run(runs / name).memory([STEP]).ranks.to_pylist()
    for rank, actions in enumerate(made.actions):
        letters = {kind: letter for letter, kind in KIND_OF.items()}
        wanted = [f"{a.stage}{letters[a.kind]}{a.microbatch}" for a in actions]
        assert _actions(runs / name, rank) == wanted
        most = in_flight(actions)
        assert (held[rank]["peak_in_flight"], held[rank]["plan_in_flight"]) == (most, most)


@EACH
def test_time_is_accounted_for_to_the_nanosecond(runs: Path, name: str) -> None:
    accounting = open_run(runs / name).accounting()
    assert STEP in accounting.windows["step"].to_pylist()
    summed = accounting.table.group_by(["rank", "step"]).aggregate([("duration", "sum")])
    assert {(r["rank"], r["step"]): r["duration_sum"] for r in summed.to_pylist()} == {
        (r["rank"], r["step"]): r["duration"] for r in accounting.windows.to_pylist()
    }


def test_gpipe_and_1f1b_by_hand(runs: Path) -> None:
    assert _actions(runs / "GPipe", 0) == ["0F0", "0F1", "0F2", "0F3", "0B0", "0B1", "0B2", "0B3"]
    assert _actions(runs / "GPipe", 1) == ["1F0", "1F1", "1F2", "1F3", "1B0", "1B1", "1B2", "1B3"]
    assert _actions(runs / "1F1B", 0) == ["0F0", "0F1", "0B0", "0F2", "0B1", "0F3", "0B2", "0B3"]
    assert _actions(runs / "1F1B", 1) == ["1F0", "1B0", "1F1", "1B1", "1F2", "1B2", "1F3", "1B3"]


@EACH
def test_a_message_crosses_each_boundary_between_ranks_once_per_microbatch(
    runs: Path, name: str
) -> None:
    """A send carries the sender's stage, a receive the receiver's; stages of one rank hand over
    without a message."""
    holder = {stage: rank for rank, stages in enumerate(PLACEMENTS[name]) for stage in stages}
    expected: Counter[tuple[int, str, int, int, int]] = Counter()
    for source in holder:
        for target in (source + 1, source - 1):
            if target in holder and holder[target] != holder[source]:
                for microbatch in range(MICROBATCHES):
                    sender, receiver = holder[source], holder[target]
                    expected[sender, "send", source, microbatch, receiver] += 1
                    expected[receiver, "recv", target, microbatch, sender] += 1
    seen: Counter[tuple[int, str, int, int, int]] = Counter()
    for rank in (0, 1):
        for row in calls(runs / name, rank, step=STEP):
            assert (row["bytes"], row["dtype"], row["group"]) == (
                MESSAGE_BYTES,
                "float32",
                "pp:0-1",
            )
            seen[rank, row["kind"], row["stage"], row["microbatch"], row["peer"]] += 1

    assert seen == expected


@EACH
def test_every_message_is_waited_for(runs: Path, name: str) -> None:
    for rank in (0, 1):
        issued = [row["correlation"] for row in calls(runs / name, rank, step=STEP)]
        waited = [row["correlation"] for row in rows(runs / name, rank, step=STEP, kind="wait")]

        assert sorted(waited) == sorted(issued)


@EACH
def test_mesh_stages_and_told_steps_reach_the_run(runs: Path, name: str) -> None:
    schedule = meta(runs / name)["schedule"]
    for rank, stages in enumerate(PLACEMENTS[name]):
        assert facts(runs / name, rank)["stages"] == list(stages)
        assert facts(runs / name, rank)["coordinates"] == {"pp": rank}
        assert facts(runs / name, rank)["ended"] == "closed"
        assert [row["step"] for row in rows(runs / name, rank, kind="step")] == [0, 1]

    assert schedule["name"] == f"Schedule{name}"
    assert schedule["stages"] == 2 * schedule["virtual_stages"]
    assert (schedule["microbatches"], schedule["pipeline_size"]) == (MICROBATCHES, 2)
    assert meta(runs / name)["config"] == {"schedule": name}
