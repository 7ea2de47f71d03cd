"""The plain example, alone and data-parallel, by each way to switch recording on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dashboard import open_run
from tests.support.launching import ROOT, environment, run_python, torchrun
from tests.support.reading import rows

EXAMPLE = ROOT / "examples" / "train_plain.py"
STEPS = 6
STEP = ["data", "forward", "backward", "optimizer"]


def _work(run: Path, rank: int) -> list[tuple[int, str]]:
    return [(row["step"], row["kind"]) for row in rows(run, rank) if row["kind"] in STEP]


@pytest.mark.parametrize("way", ["--out", "RANKSCOPE_DIR"])
def test_one_process(tmp_path: Path, way: str) -> None:
    run = tmp_path / "run"
    plain = run_python(EXAMPLE, preloaded=True)
    if way == "--out":
        recorded = run_python(EXAMPLE, "--out", run, preloaded=True)
    else:
        recorded = run_python(EXAMPLE, env={"RANKSCOPE_DIR": str(run)}, preloaded=True)

    assert recorded.stdout == plain.stdout
    assert _work(run, 0) == [(step, kind) for step in range(STEPS) for kind in STEP]


@pytest.mark.distributed
def test_two_processes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    plain, recorded = torchrun(2, EXAMPLE), torchrun(2, EXAMPLE, "--out", run)

    assert recorded.stdout == plain.stdout
    for rank in (0, 1):
        assert _work(run, rank) == [(step, kind) for step in range(STEPS) for kind in STEP]
        reduced = rows(run, rank, kind="collective", name="all_reduce")
        assert [row["step"] for row in reduced] == list(range(STEPS))
    opened = open_run(run)
    assert opened.accounting().share("compute") > 0
    counted = opened.sql("SELECT count(*) AS n FROM steps").to_pylist()
    assert counted == [{"n": 2 * STEPS}]


@pytest.mark.distributed
def test_rankscope_run_puts_the_tracer_before_the_script(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rankscope = str(Path(sys.executable).with_name("rankscope"))
    launch = ("torchrun", "--standalone", "--nproc-per-node", "2")
    subprocess.run(
        [rankscope, "run", "--out", str(run), "--", *launch, str(EXAMPLE)],
        env=environment({"PATH": str(Path(sys.executable).parent)}),
        capture_output=True,
        timeout=120,
        check=True,
    )

    for rank in (0, 1):
        kinds = [kind for kind in STEP if kind != "data"]
        assert _work(run, rank) == [(step, kind) for step in range(STEPS) for kind in kinds]
