"""The innermost span at every instant: a lane of nested spans cut into pieces side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.analysis.rows_by_key import Ints


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
    begins, ends = start[order], end[order]
    # Most spans overlap no other: those are pieces as they are.
    apart = begins[1:] >= np.maximum.accumulate(ends)[:-1]
    alone = np.append(True, apart)[: len(order)] & np.append(apart, True)[: len(order)]
    whole = np.stack([begins[alone], ends[alone], order[alone]], axis=1)
    cut = np.array(_cut(begins[~alone], ends[~alone], order[~alone]), np.int64).reshape(-1, 3)
    found = np.concatenate([whole, cut])
    found = found[found[:, 1] > found[:, 0]]
    found = found[np.argsort(found[:, 0])]
    return found[:, 0], found[:, 1], found[:, 2]


def _cut(begins: Ints, ends: Ints, spans: Ints) -> list[tuple[int, int, int]]:
    """Pieces of spans that overlap, in order of start, the longest first; some have no length."""
    cuts: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int]] = []
    now = 0
    for begin, last, span in zip(begins.tolist(), ends.tolist(), spans.tolist(), strict=True):
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
    return cuts
