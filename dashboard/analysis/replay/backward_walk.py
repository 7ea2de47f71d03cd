"""The backward walk that finds a critical path across ranks.

On a rank, everything between two waits is its own work, so the path follows it; where a wait was
ended by another rank (the send of a receive, the last arrival of a collective), the path crosses
to that rank at the instant that ended it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LOCAL: Final = "local"
TRANSFER: Final = "transfer"


@dataclass(kw_only=True, slots=True, frozen=True, order=True)
class Dependency:
    """A wait on this rank that ended at `end` because of what rank `cause_rank` did at `cause`.

    Times in ns on the common clock. A dependency counts only if the cause came after the wait
    began: otherwise the rank waited for nobody, and `dependencies` leaves it out.
    """

    end: int
    cause: int
    cause_rank: int
    operation: int
    """Row of the operation on the waiting rank, for whoever wants to name it."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Segment:
    """A piece of the path: `local` work of a rank, or the `transfer` that it waited for.

    A transfer belongs to the rank that received; `cause_rank` is where the path goes on.
    """

    rank: int
    start: int
    end: int
    what: str
    cause_rank: int | None = None
    operation: int | None = None

    @property
    def duration(self) -> int:
        """Length in ns."""
        return self.end - self.start


def walk(
    dependencies: Mapping[int, Sequence[Dependency]], *, rank: int, begin: int, end: int
) -> list[Segment]:
    """The critical path that ends at `end` on `rank`, back to `begin`, in order of time.

    `dependencies[rank]` is sorted by `end`. The segments tile [begin, end) exactly.
    """
    backwards: list[Segment] = []
    now = end
    while now > begin:
        crossed = _last_before(dependencies.get(rank, ()), now)
        if crossed is None or crossed.end <= begin:
            backwards.append(Segment(rank=rank, start=begin, end=now, what=LOCAL))
            break
        if crossed.end < now:
            backwards.append(Segment(rank=rank, start=crossed.end, end=now, what=LOCAL))
        cause = max(crossed.cause, begin)
        backwards.append(
            Segment(
                rank=rank,
                start=cause,
                end=crossed.end,
                what=TRANSFER,
                cause_rank=crossed.cause_rank,
                operation=crossed.operation,
            )
        )
        rank, now = crossed.cause_rank, cause
    return backwards[::-1]


def _last_before(found: Sequence[Dependency], now: int) -> Dependency | None:
    """The last dependency that ended at or before `now` and whose cause lies before `now`."""
    index = bisect_right(found, now, key=lambda dependency: dependency.end) - 1
    while index >= 0 and found[index].cause >= now:
        index -= 1
    return found[index] if index >= 0 else None
