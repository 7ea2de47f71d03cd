"""Replay a dependency graph with many weights at once.

One replay looks at edge after edge. Many of them share that order: points are taken by levels, each
of points that wait only for points of the levels before, and a level is worked out for all weights
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from dashboard.analysis.communication.points import Ints
from dashboard.analysis.replay.graph import Graph
from dashboard.analysis.replay.replay import in_rows

_AT_ONCE: Final = 3_000_000
"""Times and weights that are held together: 24 MB. Levels are few, so that more at once saves no
time."""


@dataclass(kw_only=True, frozen=True)
class _Levels:
    """edges: their numbers, level after level; source: theirs. targets: the points that have edges
    in that order, first: where the edges of each begin. bounds: of each level, its first target and
    its first edge.
    """

    edges: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    bounds: list[tuple[int, int]]


def replays(graph: Graph, weights: Iterable[Ints]) -> Iterator[Ints]:
    """For each of the weights what `replay` says: the time of every point, ns."""
    levels = _levels(graph)
    at_once = max(_AT_ONCE // max(len(graph.time) + len(graph.weight), 1), 1)
    left = iter(weights)
    while some := [one[levels.edges] for one in islice(left, at_once)]:
        times = np.repeat(graph.time[:, None], len(some), axis=1)
        weight = np.stack(some, axis=1)
        for (target, edge), (next_target, next_edge) in pairwise(levels.bounds):
            reached = times[levels.source[edge:next_edge]] + weight[edge:next_edge]
            if next_edge - edge > next_target - target:
                first = levels.first[target:next_target] - edge
                reached = np.maximum.reduceat(reached, first, axis=0)
            times[levels.targets[target:next_target]] = reached
        yield from times.T


def _levels(graph: Graph) -> _Levels:
    """Found once for a graph."""
    if graph not in _OF_GRAPH:
        _OF_GRAPH[graph] = _found(graph)
    return _OF_GRAPH[graph]


_OF_GRAPH: Final[WeakKeyDictionary[Graph, _Levels]] = WeakKeyDictionary()


def _found(graph: Graph) -> _Levels:
    level = [0] * len(graph.time)
    for source, target in in_rows(graph.source, graph.target):
        if level[source] >= level[target]:
            level[target] = level[source] + 1
    of_edge = np.array(level, np.int64)[graph.target]
    edges = np.argsort(of_edge, kind="stable")  # edges of a target stay together
    targets, of_edge = graph.target[edges], of_edge[edges]
    first = np.flatnonzero(np.diff(targets, prepend=-1))
    begins = np.flatnonzero(np.diff(of_edge[first], prepend=-1))
    ends = [*begins.tolist(), len(first)]
    edge_at = [*first.tolist(), len(edges)]
    return _Levels(
        edges=edges.astype(np.int32),
        source=graph.source[edges].astype(np.int32),
        targets=targets[first].astype(np.int32),
        first=first.astype(np.int32),
        bounds=[(at, edge_at[at]) for at in ends],
    )
