"""Record the injection matrix, and print what was found of it.

    python -m benchmarks.stragglers DIRECTORY    record into it (8 minutes), then judge
    python -m benchmarks.stragglers DIRECTORY    again: judge what is there

Other work on the machine makes slow steps of its own. With `chrt -r 5` before the command
(real-time priority, which needs root) it does not reach the processes, which mostly sleep.

It is a package and no script beside the other benchmarks because it takes minutes, and those run
with the tests. A few of its cases do: tests/end_to_end/test_stragglers.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.stragglers.verdict import judged, tables


def main() -> None:
    """Record unless that was done before; print Markdown."""
    directory = Path(sys.argv[1])
    if not directory.exists():
        record(directory)
    print("\n".join(tables(judged(directory))))


def record(directory: Path) -> None:
    """All cases, four processes, one torchrun."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4")
    training = ("-m", "benchmarks.stragglers.training", str(directory))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launch, *training], env=environment, check=True)


if __name__ == "__main__":
    main()
