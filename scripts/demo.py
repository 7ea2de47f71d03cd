"""The demo: record a real training of four processes, report on it, open the dashboard on it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = Path("runs/demo")
PROCESSES = 4


def main() -> int:
    """Record, report, and unless `--no-serve` serve until interrupted; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-serve", action="store_true", help="stop after the report")
    parser.add_argument("--port", type=int, help="port of the dashboard")
    options = parser.parse_args()
    os.chdir(ROOT)

    shutil.rmtree(RUN, ignore_errors=True)
    failed = _run(record_command()) or _run([rankscope(), "report", str(RUN)])
    if failed or options.no_serve:
        return failed
    port = ["--port", str(options.port)] if options.port else []
    samples = sorted(str(path.parent) for path in Path("sample_traces").glob("*/run.json"))
    return _run([rankscope(), "dashboard", *port, str(RUN), *samples])


def record_command() -> list[str]:
    """What records the demo: any script, started by torchrun through `-m tracer`."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    processes = ["--nproc-per-node", str(PROCESSES)]
    traced = ["-m", "tracer", "--out", str(RUN)]
    training = ["examples/train_pipeline.py"]
    return [*torchrun, *processes, *traced, *training]


def rankscope() -> str:
    """The command of the environment that runs this script."""
    return str(Path(sys.executable).with_name("rankscope"))


def _run(command: list[str]) -> int:
    print("$", " ".join([Path(command[0]).name, *command[1:]]), flush=True)
    try:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
