"""What ranks do between the last action of one step and the first of the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
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
from dashboard.analysis.rows_by_key import Ints, RowsByKey, rows_by_key, words_numbered

if TYPE_CHECKING:
    from dashboard.runs import Recording

Samples: TypeAlias = npt.NDArray[np.float64]
"""Recorded times, ns."""


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


def outside_of_plan(
    run: Recording, by_step: Mapping[int, Sequence[Action]], graph: Graph | None = None
) -> tuple[Outside, ...]:
    """By pipeline rank. graph: of these steps, others may be in it; if it is known."""
    graph = graph or dependency_graph(run, list(by_step))
    busy = _Busy.of(run.ranks, graph)
    windows = _windows(by_step, graph.steps)
    found: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    number = {rank: at for at, rank in enumerate(run.ranks)}
    for rank, place in places(run).items():
        loading, others, reductions = busy.of_rank(number[rank])
        every, mine = union(others, reductions), found[place]
        for begin, end in windows.get(rank, ()):
            whole = measure(clip(every, begin, end))
            reduction = whole - measure(clip(others, begin, end))
            mine.append((whole, reduction, measure(clip(loading, begin, end))))
    samples = (np.array(rows or [(0, 0, 0)], np.float64) for _, rows in sorted(found.items()))
    return tuple(
        Outside(whole=rows[:, 0], reduction=rows[:, 1], loading=rows[:, 2]) for rows in samples
    )


def _windows(
    by_step: Mapping[int, Sequence[Action]], every: Sequence[int]
) -> dict[int, list[tuple[int, int]]]:
    """By rank, from its last action of each step to its first of the next; of what is between two
    steps nothing where that is another one of `every`.
    """
    spans: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    place = {step: number for number, step in enumerate(every)}
    for step, actions in by_step.items():
        of_step: dict[int, tuple[int, int]] = {}
        for action in actions:
            begin, end = of_step.get(action.rank, (action.start, action.end))
            of_step[action.rank] = min(begin, action.start), max(end, action.end)
        for rank, span in of_step.items():
            spans[rank].append((place[step], *span))
    return {
        rank: [
            (end, max(begin, end))
            for (before, _, end), (after, begin, _) in pairwise(found)
            if after == before + 1
        ]
        for rank, found in spans.items()
    }


_WORKS, _LOADS, _REDUCES = range(3)


@dataclass(kw_only=True, frozen=True)
class _Busy:
    """When each rank loaded data; did work, that too, or communicated in a collective, reductions
    aside; and these. Rows of pieces and of collectives by rank and what they are.
    """

    pieces: tuple[Ints, Ints, RowsByKey]
    collectives: tuple[Ints, Ints, RowsByKey]

    @classmethod
    def of(cls, ranks: Sequence[int], graph: Graph) -> _Busy:
        pieces = graph.pieces
        collectives = graph.transfers.filter(pc.is_null(graph.transfers["src"]))
        # A transfer ends at the target of its edge.
        length = collectives["duration"].to_numpy()
        ends = graph.time[graph.target[collectives["edge"].to_numpy()]]
        return cls(
            pieces=(
                pieces["start"].to_numpy(),
                pieces["duration"].to_numpy(),
                _by_rank_and_use(ranks, pieces),
            ),
            collectives=(ends - length, length, _by_rank_and_use(ranks, collectives)),
        )

    def of_rank(self, number: int) -> tuple[Intervals, Intervals, Intervals]:
        """Of the rank with that number."""
        # What a call takes anyway is a piece of its rank, and no transfer.
        return (
            _intervals(self.pieces, number, _LOADS),
            union(
                _intervals(self.pieces, number, _WORKS, _LOADS),
                _intervals(self.collectives, number, _WORKS, _LOADS),
            ),
            union(
                _intervals(self.pieces, number, _REDUCES),
                _intervals(self.collectives, number, _REDUCES),
            ),
        )


def _by_rank_and_use(ranks: Sequence[int], table: pa.Table) -> RowsByKey:
    words, category = words_numbered(table["category"])
    use = np.array([_USES.get(word or "", _WORKS) for word in words], np.int64)
    place = np.searchsorted(ranks, table["rank"].to_numpy())
    return rows_by_key(place * 3 + use[category], len(ranks) * 3)


_USES: Final = {"data": _LOADS, "comm:dp": _REDUCES}
"""By category."""


def _intervals(of: tuple[Ints, Ints, RowsByKey], place: int, *uses: int) -> Intervals:
    start, duration, by_use = of
    rows = np.concatenate([by_use[place * 3 + use] for use in uses])
    return intervals(start[rows], duration[rows])
