"""The edges of a dependency graph, as replays go through them: one after the other, or by levels.

A level is of the points that wait only for points of the levels before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dashboard.analysis.rows_by_key import Ints

_AT_ONCE: Final = 1 << 16
"""Rows as objects: some MB."""


def in_rows(*columns: Ints) -> Iterator[tuple[int, ...]]:
    """Row by row; of long columns a part at a time, since numbers as objects take five times the
    memory.

    `[1, 2], [3, 4]` → (1, 3), (2, 4)
    """
    for at in range(0, len(columns[0]), _AT_ONCE):
        yield from zip(*(column[at : at + _AT_ONCE].tolist() for column in columns), strict=True)


@dataclass(kw_only=True, frozen=True)
class Levels:
    """edges: their numbers, level after level; source: theirs. targets: the points that have edges
    in that order, first: where the edges of each begin. bounds: of each level, its first target and
    its first edge; at the end, how many there are.
    """

    edges: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    bounds: list[tuple[int, int]]


def levels_of(points: int, source: Ints, target: Ints) -> Levels:
    """Of edges between so many points, in order of target."""
    level = [0] * points
    for begin, end in in_rows(source, target):
        if level[begin] >= level[end]:
            level[end] = level[begin] + 1
    of_edge = np.array(level, np.int64)[target]
    edges = np.argsort(of_edge, kind="stable")  # edges of a target stay together
    targets, of_edge = target[edges], of_edge[edges]
    first = np.flatnonzero(np.diff(targets, prepend=-1))
    begins = np.flatnonzero(np.diff(of_edge[first], prepend=-1))
    ends = [*begins.tolist(), len(first)]
    edge_at = [*first.tolist(), len(edges)]
    return Levels(
        edges=edges.astype(np.int32),
        source=source[edges].astype(np.int32),
        targets=targets[first].astype(np.int32),
        first=first.astype(np.int32),
        bounds=[(at, edge_at[at]) for at in ends],
    )
