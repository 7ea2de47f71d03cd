"""torchtitan's own trainer, on CPU: pipeline and FSDP of its llama3 debug model are recorded.

No collector is for torchtitan: it uses torch's pipelining, FSDP2 and device meshes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchtitan", reason="torchtitan is not installed")

from tests.support.launching import SCRIPTS, record, torchrun
from tests.support.reading import calls, facts, meta, rows

pytestmark = pytest.mark.distributed

SCRIPT = SCRIPTS / "torchtitan_debug.py"
MICROBATCHES, STEPS, STEP = 4, 3, 1
ALONE = ("1F1B", "2", "1")
"""Schedule, pipeline degree, FSDP degree."""
WITH_FSDP = ("Interleaved1F1B", "2", "2")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs, named by their schedules, and the parameters of the first one."""
    directory = tmp_path_factory.mktemp("torchtitan")
    for (name, *degrees), processes in ((ALONE, 2), (WITH_FSDP, 4)):
        arguments = [name, *degrees, directory / f"{name}.parameters"]
        record(directory / name, SCRIPT, arguments, processes=processes)
    return directory


@pytest.mark.parametrize(("name", "processes"), [("1F1B", 2), ("Interleaved1F1B", 4)])
def test_every_rank_did_what_the_schedule_planned(
    recorded: Path, name: str, processes: int
) -> None:
    schedule = meta(recorded / name)["schedule"]
    assert (schedule["name"], schedule["microbatches"]) == (f"Schedule{name}", MICROBATCHES)
    for rank in range(processes):
        plan = schedule["plan"][str(facts(recorded / name, rank)["coordinates"]["pp"])]
        assert len(plan) == 2 * MICROBATCHES * schedule["virtual_stages"]
        for step in range(STEPS):
            assert [
                f"{row['stage']}{row['name']}{row['microbatch']}"
                for row in rows(recorded / name, rank, step=step)
                if row["kind"] in ("forward", "backward")
            ] == plan
        assert len(rows(recorded / name, rank, kind="step")) == STEPS
        assert facts(recorded / name, rank)["ended"] == "closed"


@pytest.mark.parametrize(("name", "processes"), [("1F1B", 2), ("Interleaved1F1B", 4)])
def test_messages_between_stages_carry_their_microbatch(
    recorded: Path, name: str, processes: int
) -> None:
    run = recorded / name
    stages = meta(run)["schedule"]["stages"]
    seen = Counter(
        (row["kind"], row["stage"], row["microbatch"])
        for rank in range(processes)
        for row in calls(run, rank, step=STEP)
        if row["kind"] in ("send", "recv")
    )
    neighbours = {stage: (stage > 0) + (stage < stages - 1) for stage in range(stages)}
    pipelines = processes // 2
    assert seen == {
        (kind, stage, microbatch): pipelines * neighbours[stage]
        for kind in ("send", "recv")
        for stage in range(stages)
        for microbatch in range(MICROBATCHES)
    }


def test_groups_go_by_the_dimensions_of_torchtitan(recorded: Path) -> None:
    run = recorded / "Interleaved1F1B"
    for rank in range(4):
        assert facts(run, rank)["coordinates"] == {
            "pp": rank // 2,
            "batch": rank % 2,
            "cp": 0,
            "tp": 0,
        }
        ops = {(row["name"], row["group"].split(":")[0]) for row in calls(run, rank, step=STEP)}
        assert {("all_gather", "fsdp"), ("reduce_scatter", "fsdp"), ("send", "pp")} <= ops


def test_the_parameters_are_the_same_bits_without_us(recorded: Path, tmp_path: Path) -> None:
    torchrun(2, SCRIPT, *ALONE, tmp_path / "parameters")
    for rank in (0, 1):
        with_us = torch.load(recorded / f"1F1B.parameters.{rank}")
        without = torch.load(tmp_path / f"parameters.{rank}")
        assert len(with_us) == len(without) > 10
        assert all(torch.equal(a, b) for a, b in zip(with_us, without, strict=True))
