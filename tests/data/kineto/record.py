"""Record the traces of this folder anew: torch.profiler on real processes, CPU and gloo.

    python tests/data/kineto/record.py [NAME …]

Each NAME becomes a folder with one compressed trace per rank, as torch.profiler's own
`export_chrome_trace` writes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]

TRACES = {
    "pp2-tp2-1f1b": (4, "--schedule", "1F1B", "--tensor-parallel", "2"),
    "pp2-interleaved": (2, "--schedule", "Interleaved1F1B", "--virtual-stages", "2"),
    "ddp2": (2, "--ddp"),
}
MODEL = ("--microbatches", "4", "--rows", "4", "--width", "16", "--work-ms", "2", "--steps", "5")
MAX_BYTES = 300_000
"""Of one folder."""


def main(names: list[str]) -> int:
    """Record; the exit code of the first that fails, else 0."""
    for name in names or TRACES:
        processes, *arguments = TRACES[name]
        out = HERE / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        launch = ["-m", "torch.distributed.run", "--standalone"]
        script = ["--nproc-per-node", str(processes), str(HERE / "train.py"), str(out)]
        run = subprocess.run(
            [sys.executable, *launch, *script, *arguments, *MODEL],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            check=False,
        )
        if run.returncode:
            return run.returncode
        size = sum(file.stat().st_size for file in out.iterdir())
        print(f"{name}: {size:,} bytes")
        if size > MAX_BYTES:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
