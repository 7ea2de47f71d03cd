"""A job that hangs: every rank's black box is written by itself, and says who is missing where."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.launching import SCRIPTS, TIMEOUT_S, environment, run_python
from tests.support.reading import rows

RANKS = 3


def test_the_collective_and_the_rank_that_did_not_arrive_are_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = _until_all_are_written(run)
    for rank in (0, 1):
        waits = f"rank {rank}: no progress for 2 s; it is in all_reduce #13 of world:0-2 (4,096 B)"
        assert waits in said
    assert "rank 2: no progress for 2 s; it is outside any communication" in said
    assert "train_and_hang.py" in (run / "rank-00002.stacks.txt").read_text()

    for rank in range(RANKS):
        assert [row["step"] for row in rows(run, rank, kind="step")] == [2, 3, 4, 5]
    checked = run_python(
        "-c", "from dashboard.cli import main; main()", "check", run, "--json", expect=1
    )
    found = [row for row in json.loads(checked.stdout) if row["check"] == "collectives"]
    assert [(row["rank"], row["text"]) for row in found] == [
        (
            2,
            "world:0-2 #13 in step 6: all_reduce of 4,096 B on ranks 0-1; "
            "did not arrive: rank 2; the last of rank 2 is #12",
        )
    ]
    report = run_python("-c", "from dashboard.cli import main; main()", "report", run)
    assert "a black box of 4 steps" in " ".join(report.stdout.split())
    assert "no progress for 2 s" in report.stdout


def _until_all_are_written(run: Path) -> str:
    """What the ranks say on standard error until all have written; then they are killed."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS))
    with subprocess.Popen(
        [sys.executable, *launch, str(SCRIPTS / "train_and_hang.py"), str(run)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        try:
            end = time.monotonic() + TIMEOUT_S
            while sum("no progress" in line for line in lines) < RANKS:
                assert time.monotonic() < end
                lines.append(process.stderr.readline())
            while not all(rows(run, rank, kind="marker") for rank in range(RANKS)):
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            lines.append(process.communicate(timeout=TIMEOUT_S)[1])
    return "".join(lines)
