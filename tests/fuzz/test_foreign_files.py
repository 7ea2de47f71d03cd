"""Whatever a file of another tool holds, importing it gives a run or one clear line.

More examples: `RANKSCOPE_FUZZ_EXAMPLES=5000 RANKSCOPE_FUZZ_SEED=7 pytest tests/fuzz --timeout 0`.
"""

from __future__ import annotations

import os
import subprocess
import sys

EXAMPLES = os.environ.get("RANKSCOPE_FUZZ_EXAMPLES", "20")
SEED = os.environ.get("RANKSCOPE_FUZZ_SEED")


def test_a_damaged_file_is_imported_or_refused_in_words() -> None:
    formats = ("flight-recorder", "nccl", "nsys")
    seed = [] if SEED is None else ["--seed", SEED]
    command = [sys.executable, "-m", "tests.fuzz.foreign", *formats, "--examples", EXAMPLES, *seed]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
    for name in formats:
        assert f"{name}: " in done.stdout
