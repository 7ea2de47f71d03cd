"""Replay a dependency graph with many weights at once.

One replay looks at edge after edge. Many of them share that order: points are taken by levels
(edges.py), and a level is worked out for all weights together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Final

import numpy as np

from dashboard.analysis.replay.graph import Graph
from dashboard.analysis.rows_by_key import Ints

_AT_ONCE: Final = 3_000_000
"""Times and weights that are held together: 24 MB. Levels are few, so that more at once saves no
time."""


def replays(graph: Graph, weights: Iterable[Ints]) -> Iterator[Ints]:
    """For each of the weights what `replay` says: the time of every point, ns."""
    levels = graph.levels
    at_once = max(_AT_ONCE // max(len(graph.time) + len(graph.weight), 1), 1)
    left = iter(weights)
    while some := [one[levels.edges] for one in islice(left, at_once)]:
        times = np.repeat(graph.time[:, None], len(some), axis=1)
        weight = np.stack(some, axis=1)
        some.clear()
        for (target, edge), (next_target, next_edge) in pairwise(levels.bounds):
            reached = times[levels.source[edge:next_edge]] + weight[edge:next_edge]
            if next_edge - edge > next_target - target:
                first = levels.first[target:next_target] - edge
                reached = np.maximum.reduceat(reached, first, axis=0)
            times[levels.targets[target:next_target]] = reached
        yield from times.T
