"""What ranks do between the last action of one step and the first of the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import Intervals, clip, intervals, measure, union
from dashboard.analysis.pipeline.actions import Action, places
from dashboard.analysis.replay.graph import Graph, dependency_graph

if TYPE_CHECKING:
    from dashboard.runs import Recording

Samples: TypeAlias = npt.NDArray[np.float64]
"""Recorded times, ns."""

_REDUCTION: Final = "comm:dp"
_LOADING: Final = "data"


@dataclass(kw_only=True, frozen=True)
class Outside:
    """Of one pipeline rank, one sample per pair of neighbouring steps, ns.

    whole: the time in which the rank did work of its own, or a collective was under way whose
    members had all arrived; waits for late ranks are left out. Of it, reduction: data ranks
    reduced gradients, and nothing else was done; loading: data was loaded.

    Own work 0-5, reduction 4-10, optimizer 10-12 → whole 12, reduction 5, loading 0
    """

    whole: Samples
    reduction: Samples
    loading: Samples


def outside_of_plan(run: Recording, by_step: Mapping[int, Sequence[Action]]) -> tuple[Outside, ...]:
    """By pipeline rank."""
    graph = dependency_graph(run, list(by_step))
    found: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for rank, place in places(run).items():
        loading, others, reductions = _busy(graph, rank)
        every, mine = union(others, reductions), found[place]
        for begin, end in _windows(by_step, rank):
            whole = measure(clip(every, begin, end))
            reduction = whole - measure(clip(others, begin, end))
            mine.append((whole, reduction, measure(clip(loading, begin, end))))
    samples = (np.array(rows or [(0, 0, 0)], np.float64) for _, rows in sorted(found.items()))
    return tuple(
        Outside(whole=rows[:, 0], reduction=rows[:, 1], loading=rows[:, 2]) for rows in samples
    )


def _windows(by_step: Mapping[int, Sequence[Action]], rank: int) -> Iterator[tuple[int, int]]:
    """From a rank's last action of each step to its first of the next."""
    spans = [
        (min(a.start for a in own), max(a.end for a in own))
        for actions in by_step.values()
        if (own := [a for a in actions if a.rank == rank])
    ]
    for (_, end), (begin, _) in pairwise(spans):
        yield end, max(begin, end)


def _busy(graph: Graph, rank: int) -> tuple[Intervals, Intervals, Intervals]:
    """When the rank loaded data; did work, that too, or communicated in a collective, reductions
    aside; and these.
    """
    pieces = graph.pieces.filter(pc.equal(graph.pieces["rank"], rank))
    of_rank = pc.equal(graph.transfers["rank"], rank)
    collectives = graph.transfers.filter(pc.and_(of_rank, pc.is_null(graph.transfers["src"])))
    is_reduction = pc.equal(collectives["category"], _REDUCTION)
    # What a call takes anyway is a piece of its rank, and no transfer.
    is_call = pc.equal(pieces["category"], _REDUCTION)
    return (
        _work(pieces.filter(pc.equal(pieces["category"], _LOADING))),
        union(
            _work(pieces.filter(pc.invert(is_call))),
            _spans(graph, collectives.filter(pc.invert(is_reduction))),
        ),
        union(_work(pieces.filter(is_call)), _spans(graph, collectives.filter(is_reduction))),
    )


def _work(pieces: pa.Table) -> Intervals:
    return intervals(pieces["start"].to_numpy(), pieces["duration"].to_numpy())


def _spans(graph: Graph, transfers: pa.Table) -> Intervals:
    """A transfer ends at the target of its edge."""
    duration = transfers["duration"].to_numpy()
    ends = graph.time[graph.target[transfers["edge"].to_numpy()]]
    return intervals(ends - duration, duration)
