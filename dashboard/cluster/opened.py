"""The run in the process that does a task: the one that is there, or opened anew and kept."""

from __future__ import annotations

from functools import lru_cache

from dashboard.runs import Recording
from dashboard.runs.reopening import Opening, reopened


def opened(opening: Opening | Recording) -> Recording:
    """The run, opened once per process.

    Raises:
        TraceError: this process does not find the same files.
    """
    if isinstance(opening, Recording):
        return opening
    sizes = tuple(number for facts in opening.seen.values() for number in facts)
    return _reopened(opening.source, opening.known.run_id, sizes, _ByIdentity(opening))


class _ByIdentity:
    """An opening that is told from others by what stands beside it."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=2)
def _reopened(source: str, run_id: str, sizes: tuple[int, ...], opening: _ByIdentity) -> Recording:
    return reopened(opening.opening)
