"""The innermost span at every instant: a lane of nested spans cut into pieces side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(kw_only=True, slots=True, frozen=True)
class Piece:
    """[start, end) in which span number `span` was the innermost one."""

    start: int
    end: int
    span: int


def leaves(spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """Cut spans, given as (start, end) in any order, into pieces in order of time.

    A span that overlaps another without lying in it takes over where it starts.

    `[(0, 10), (2, 4), (4, 5)]` → 0-2 of span 0, 2-4 of 1, 4-5 of 2, 5-10 of 0
    """
    both = np.array(spans, np.int64).reshape(-1, 2)
    pieces = zip(*(part.tolist() for part in innermost(both[:, 0], both[:, 1])), strict=True)
    return [Piece(start=start, end=end, span=span) for start, end, span in pieces]


def innermost(start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """The same of many spans: start, end and span of each piece."""
    order = np.lexsort((-end, start))
    begins, ends, spans = start[order].tolist(), end[order].tolist(), order.tolist()
    cuts: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int]] = []
    now = 0
    for begin, last, span in zip(begins, ends, spans, strict=True):
        while opened and opened[-1][0] <= begin:
            until, top = opened.pop()
            cuts.append((now, until, top))
            now = max(now, until)
        if opened:
            cuts.append((now, begin, opened[-1][1]))
        now = max(now, begin) if opened else begin
        if last > begin:
            opened.append((last, span))
    while opened:
        until, top = opened.pop()
        cuts.append((now, until, top))
        now = max(now, until)
    found = np.array(cuts, np.int64).reshape(-1, 3)
    found = found[found[:, 1] > found[:, 0]]
    return found[:, 0], found[:, 1], found[:, 2]
