"""Start real training processes, with the tracer in front of the script or without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "end_to_end" / "scripts"
TIMEOUT_S = 240
_TORCH_ABORTED = "terminate called without an active exception"


class TorchAborted(AssertionError):
    """A process was aborted by C++ while its interpreter ended, with its work done.

    torch's own fault, with the tracer and without: DistributedDataParallel keeps the process group
    alive beyond `destroy_process_group`, so threads of gloo still run when the interpreter goes,
    and one that lets go of its last operation then asks for a lock that is gone
    (https://github.com/pytorch/pytorch/pull/179291). Seen once in some hundred runs on a busy
    machine.
    """


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
    if done.returncode != expect:
        said = f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        raise TorchAborted(said) if _TORCH_ABORTED in done.stderr else AssertionError(said)
    return done


def torchrun(
    processes: int, *arguments: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node PROCESSES ARGUMENTS`, on this host, on a free port.

    Where torch aborts a process that had ended, once more: into paths that are new again.
    """
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    new = [path for path in arguments if isinstance(path, Path) and not path.exists()]
    try:
        return run_python(*launch, *arguments, cwd=cwd)
    except TorchAborted as aborted:
        warnings.warn(f"launched again: {aborted}", stacklevel=2)
        for path in new:
            shutil.rmtree(path, ignore_errors=True)
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
