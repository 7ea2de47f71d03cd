"""Names by which several runs can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dashboard.runs import Recording


def distinct_names(runs: Sequence[Recording]) -> tuple[str, ...]:
    """Each run's own name, with as many directories above it as it takes: `main/run`, `fix/run`.

    A run that is given twice has one name.
    """
    paths = [run.path.resolve() for run in runs]
    found = []
    for path in paths:
        others = [other.parts for other in paths if other != path]
        long = 1
        while long < len(path.parts) and path.parts[-long:] in (o[-long:] for o in others):
            long += 1
        found.append(str(Path(*path.parts[-long:])))
    return tuple(found)
