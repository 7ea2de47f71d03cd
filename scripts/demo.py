"""The demo: record a real training of four processes, report on it, open the dashboard on it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 4
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


def main() -> int:
    """Record, report, and unless `--no-serve` serve; the exit code. Ctrl-C ends it all."""
    options = _parse()
    os.chdir(ROOT)
    run = str(options.out)
    failed = _run(record_command(run)) or _run([rankscope(), "report", run])
    if failed or options.no_serve:
        return failed
    port = [] if options.port is None else ["--port", str(options.port)]
    samples = sorted(str(path.parent) for path in Path("sample_traces").glob("*/run.json"))
    ended = _run([rankscope(), "dashboard", *port, run, *samples])
    return 0 if ended == INTERRUPTED else ended  # That is how one leaves the dashboard.


def record_command(run: str) -> list[str]:
    """What records the demo: any script, started by torchrun through `-m tracer`.

    The third stage is slower than the others, so that there is something to find.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    processes = ["--nproc-per-node", str(PROCESSES)]
    traced = ["-m", "tracer", "--out", run, "--overwrite"]
    training = ["examples/train_pipeline.py", "--slow-stage", "2"]
    return [*torchrun, *processes, *traced, *training]


def rankscope() -> str:
    """The command of the environment that runs this script."""
    return str(Path(sys.executable).with_name("rankscope"))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-serve", action="store_true", help="stop after the report")
    parser.add_argument("--port", type=int, help="port of the dashboard; 0 takes a free one")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="run directory; replaced each time"
    )
    return parser.parse_args()


def _run(command: list[str]) -> int:
    """Show a command and run it; its exit code, `INTERRUPTED` after Ctrl-C."""
    print("$", " ".join([Path(command[0]).name, *command[1:]]), flush=True)
    # As torchrun itself would set it, but without its warning.
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal told the command, too. subprocess.run would kill it after a quarter of a
        # second, but torchrun takes longer to end its ranks, which the terminal does not reach.
        process.wait()
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
