"""The innermost span at every instant: a lane of nested spans cut into pieces side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


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
    order = sorted(range(len(spans)), key=lambda i: (spans[i][0], -spans[i][1]))
    return [piece for piece in _cut(spans, order) if piece.end > piece.start]


def _cut(spans: Sequence[tuple[int, int]], order: Sequence[int]) -> Iterator[Piece]:
    opened: list[int] = []
    now = 0
    for index in order:
        start, end = spans[index]
        while opened and spans[opened[-1]][1] <= start:
            top = opened.pop()
            yield Piece(start=now, end=spans[top][1], span=top)
            now = max(now, spans[top][1])
        if opened:
            yield Piece(start=now, end=start, span=opened[-1])
        now = max(now, start) if opened else start
        if end > start:
            opened.append(index)
    while opened:
        top = opened.pop()
        yield Piece(start=now, end=spans[top][1], span=top)
        now = max(now, spans[top][1])
