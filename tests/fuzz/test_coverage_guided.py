"""The coverage-guided fuzzer runs and finds nothing in a few thousand inputs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris is not installed; it has no wheel for every Python")

RUNS = 3000


@pytest.mark.parametrize("what", ["arrows", "json"])
def test_a_few_thousand_inputs_end_in_rows_or_in_an_error_of_ours(
    tmp_path: Path, what: str
) -> None:
    module = [sys.executable, "-m", "tests.fuzz.coverage_guided"]
    folder = Path(__file__).parent.parent.parent
    arguments = ["--what", what, "--runs", str(RUNS), "--corpus", str(tmp_path / "corpus")]
    done = subprocess.run(
        [*module, *arguments], check=False, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-6000:]
    ran = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert ran is not None
    assert int(ran[1]) >= RUNS
    kept = len(list((tmp_path / "corpus").iterdir()))
    assert kept > {"arrows": 9, "json": 4}[what], "nothing new was found: is it instrumented?"
