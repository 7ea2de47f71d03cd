"""The attempts of a training that torchrun restarted: `runs/a`, `runs/a.restart-1`, …."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(?P<first>.+?)(?:\.restart-(?P<number>\d+))?")


def other_attempts(path: str | os.PathLike[str]) -> list[Path]:
    """The directories beside `path` that hold another attempt of the same training, in order."""
    directory, resolved = Path(path), Path(path).resolve()
    parent = directory.parent if directory.name == resolved.name else resolved.parent
    mine = _NAME.fullmatch(resolved.name)
    if mine is None:
        return []
    found = {}
    for beside in _inside(parent):
        match = _NAME.fullmatch(beside.name)
        if match and match["first"] == mine["first"] and match["number"] != mine["number"]:
            found[int(match["number"] or 0)] = beside
    return [at for _, at in sorted(found.items()) if any(at.glob("rank-*.arrows"))]


def _inside(parent: Path) -> list[Path]:
    """What is in a directory; nothing if we may not look."""
    try:
        return list(parent.iterdir())
    except OSError:
        return []
