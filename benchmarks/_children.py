"""Measuring tasks in processes of their own, so that none of them finds what another one left."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[1]


def told_by(command: Sequence[str], *, timeout: float | None = None) -> dict[str, Any]:
    """What the command, done in this repository, says in the last line of its output, as JSON.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
