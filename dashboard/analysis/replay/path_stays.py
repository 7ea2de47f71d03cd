"""The critical path as the timeline draws it: on which rank it is, and when it crosses."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dashboard.analysis.operations import operations
from dashboard.analysis.replay.critical_path import walk_steps

if TYPE_CHECKING:
    from dashboard.runs import Recording

MOST_STAYS: Final = 4_000
"""In one answer; what is narrower than a pixel is joined first, and there are fewer pixels."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Stay:
    """The path is on `rank` from `start` to `end`, ns from the run's start."""

    rank: int
    start: int
    end: int


def path_stays(run: Recording) -> list[Stay]:
    """The stays of all steps, in order of time: segments of one rank that follow each other joined.

    Before (rank, start, duration)                After
    (0, 0, 10), (1, 10, 1), (1, 11, 10)           rank 0 0-10, rank 1 10-21
    """
    return _joined(
        Stay(rank=segment.rank, start=segment.start, end=segment.end)
        for _, _, _, segments in walk_steps(run, operations(run))
        for segment in segments
    )


def stays_between(stays: list[Stay], start: int, end: int, width: int) -> list[Stay]:
    """Those that overlap [start, end), drawn `width` pixels wide; one of less than a pixel is
    joined with what follows, under the rank of the longer: `MOST_STAYS` are left at most.
    """
    first = bisect_right([stay.end for stay in stays], start)
    until = bisect_left([stay.start for stay in stays], end)
    pixel = (end - start) / min(width, MOST_STAYS)
    wide: list[Stay] = []
    for stay in stays[first:until]:
        before = wide[-1] if wide else None
        if before is None or before.end - before.start >= pixel or before.end != stay.start:
            wide.append(stay)
        else:
            is_shorter = before.end - before.start < stay.end - stay.start
            rank = stay.rank if is_shorter else before.rank
            wide[-1] = Stay(rank=rank, start=before.start, end=stay.end)
    return _joined(wide)


def _joined(stays: Iterable[Stay]) -> list[Stay]:
    found: list[Stay] = []
    for stay in stays:
        if found and (found[-1].rank, found[-1].end) == (stay.rank, stay.start):
            found[-1] = Stay(rank=stay.rank, start=found[-1].start, end=stay.end)
        elif stay.end > stay.start:
            found.append(stay)
    return found
