"""Start real training processes, with the tracer in front of the script or without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "end_to_end" / "scripts"
TIMEOUT_S = 120


def run_python(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    expect: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS`; the test fails with its output if it does not exit with `expect`."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def torchrun(
    processes: int, *arguments: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node PROCESSES ARGUMENTS`, on this host, on a free port."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    return run_python(*launch, *arguments, cwd=cwd)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """One thread per process, our packages importable, nothing of a launcher around the tests."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TORCHELASTIC_", "RANKSCOPE_", "MASTER_"))
        and name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | dict(extra or {})


def record(
    run: Path, script: Path, arguments: Sequence[str | Path], *, processes: int = 4
) -> subprocess.CompletedProcess[str]:
    """Record a script that knows nothing of us: `torchrun … -m tracer --out RUN SCRIPT …`."""
    return torchrun(processes, "-m", "tracer", "--out", run, script, *arguments)
