"""README's Python is run as it stands: its loop in two real processes, its reading on a sample."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard import open_run
from tests.test_repo.markdown import ROOT, code_blocks

RECORDING, READING = code_blocks((ROOT / "README.md").read_text(), "python")

STEPS = 3

WHAT_A_READER_HAS = f"""
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

torch.distributed.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("pp",))
stage = PipelineStage(torch.nn.Linear(4, 4), mesh.get_rank(), 2, torch.device("cpu"))
schedule = Schedule1F1B(stage, 4, loss_fn=torch.nn.functional.mse_loss)
optimizer = torch.optim.SGD(stage.submod.parameters())
loader = [(torch.ones(8, 4), torch.ones(8, 4))] * {STEPS}
"""


@pytest.mark.distributed
def test_the_ten_lines_for_ones_own_loop_record_it(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        f"{WHAT_A_READER_HAS}\n{RECORDING}\ntorch.distributed.destroy_process_group()\n"
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *launch, str(script)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )

    run = open_run(tmp_path / "runs/a")
    assert run.problems == ()
    assert run.ranks == (0, 1)
    assert run.steps == tuple(range(STEPS))
    assert run.meta.config == {"lr": 0.1}
    assert run.meta.schedule is not None
    assert run.meta.schedule.name == "Schedule1F1B"


def test_the_reading_example_prints_what_it_promises() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", READING], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert "bubble_fraction_of_window" in printed
    assert "forward" in printed


def test_the_output_shown_is_what_the_commands_print() -> None:
    """`make readme` writes it anew."""
    shown = subprocess.run(
        [sys.executable, "scripts/update_readme.py", "--check"], cwd=ROOT, check=False
    )

    assert shown.returncode == 0
