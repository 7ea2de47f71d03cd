"""Record the sample traces anew: real runs of four processes on CPU and gloo, one after another.

    python sample_traces/record.py [NAME …]

Overwrites `sample_traces/NAME/`; without names, all of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROCESSES = 4
MAX_BYTES = 1_500_000
"""Of one sample: the repository stays quick to clone."""

SAMPLES: dict[str, tuple[str, ...]] = {
    "pp4-1f1b-balanced": ("--schedule", "1F1B"),
    "pp4-1f1b-slow-stage": ("--schedule", "1F1B", "--slow-stage", "2"),
    "pp4-gpipe": ("--schedule", "GPipe"),
    "pp2-tp2-1f1b": ("--schedule", "1F1B", "--tensor-parallel", "2"),
}
"""What differs between the samples: arguments of `examples/train_pipeline.py`."""

MODEL = ("--rows", "32", "--width", "128", "--work-ms", "10")
"""Messages of 16 KiB. The sleep is long beside the arithmetic (about 1 ms), so that four
processes on two cores rarely wait for each other's processor.
"""

COMMON = ("--microbatches", "8", "--steps", "16", *MODEL)
"""Enough steps to drop some as warm-up and still compare."""


def main(names: list[str]) -> int:
    """Record the named samples; the exit code of the first that fails, else 0."""
    unknown = [name for name in names if name not in SAMPLES]
    if unknown:
        print(f"no sample {unknown[0]!r}; there are: {', '.join(SAMPLES)}", file=sys.stderr)
        return 2
    for name in names or SAMPLES:
        failed = record(name)
        if failed:
            return failed
    return 0


def record(name: str) -> int:
    """Record one sample in place of the old one; the exit code of torchrun."""
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    traced = ["-m", "tracer", "--out", str(directory.relative_to(ROOT))]
    command = [*launch, *traced, "examples/train_pipeline.py", *SAMPLES[name], *COMMON]
    print("$ python", *command, flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    failed = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, check=False
    ).returncode
    if failed:
        return failed
    size = sum(file.stat().st_size for file in directory.iterdir())
    print(f"{name}: {size:,} bytes")
    return 1 if size > MAX_BYTES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
