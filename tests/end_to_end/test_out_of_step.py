"""A job that hung because one rank left out a collective, explained from its trace."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.launching import SCRIPTS, run_python, torchrun


def test_the_collective_and_the_rank_that_did_not_arrive_are_named(tmp_path: Path) -> None:
    torchrun(3, SCRIPTS / "train_out_of_step.py", tmp_path / "run", expect=1)
    checked = run_python(
        "-c",
        "from dashboard.cli import main; main()",
        "check",
        tmp_path / "run",
        "--json",
        expect=1,
    )
    found = [row for row in json.loads(checked.stdout) if row["check"] == "collectives"]

    assert [row["rank"] for row in found] == [1]
    # Three per step: #10 is the second of step 3, which rank 1 left out.
    assert found[0]["text"].startswith(
        "world:0-2 #17 in step 5: all_reduce of 64 B on ranks 0,2; did not arrive: rank 1; "
        "the last of rank 1 is #16; out of step since #11: step 3 on ranks 0,2, step 4 on rank 1"
    )
