"""Replay a dependency graph: when each point would come if its edges weighed something else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.replay.edges import in_rows
from dashboard.analysis.replay.graph import Graph
from dashboard.analysis.replay.replayed_steps import Replayed
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import Ints
from dashboard.analysis.steps import step_windows

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, frozen=True)
class StepTimes(Result):
    """Step times in ns: of each step, from the end of the one before on the last rank to reach it
    to its own end on the last rank to reach it. In a chain of several steps the first is left out:
    where it begins is no consequence of anything in the graph.
    """

    steps: tuple[int, ...]
    lengths: Ints

    @property
    def mean_ns(self) -> float:
        """The mean step time; NaN without steps."""
        return float(self.lengths.mean()) if len(self.lengths) else float("nan")


def replay(graph: Graph, weight: Ints | None = None) -> Ints:
    """The time of every point, ns, if edges weigh `weight` instead of what was recorded.

    Each point comes as early as its edges let it; points without an edge to them come when they
    were measured.
    """
    times: list[int] = graph.time.tolist()
    before = -1
    for source, target, length in in_rows(
        graph.source, graph.target, graph.weight if weight is None else weight
    ):
        earliest = times[source] + length
        if target != before:
            times[target] = earliest
            before = target
        elif earliest > times[target]:
            times[target] = earliest
    return np.array(times, np.int64)


def measured_step_times(run: Recording, steps: Collection[int] | None = None) -> StepTimes:
    """What `step_times` says of the graph as it was measured, without the graph: of all complete
    steps, or of those of `steps`.
    """
    return times_of([step_windows(run, steps)])


def times_of(windows: Sequence[pa.Table]) -> StepTimes:
    """The same of step windows that are known, in columns: a long run has millions. Some ranks in
    each table, each rank's in order of step.

    Rank 0: step 0 0-10, step 1 10-25, step 2 30-36 → step 1 15 ns; step 2, a chain by itself, 6 ns
    """
    columns = ("step", "rank", "start", "duration")
    if not any(table.num_rows for table in windows):
        return StepTimes(steps=(), lengths=np.zeros(0, np.int64))
    table = pa.concat_tables([table.select(columns) for table in windows])
    found = [column.to_numpy() for column in table.columns]
    in_order = np.lexsort((found[0], found[1]))  # by rank, and by step within a rank
    step, rank = found[0][in_order], found[1][in_order]
    in_order = in_order[np.append((np.diff(step) != 0) | (np.diff(rank) != 0), True)]
    step, rank, start, duration = (column[in_order] for column in found)
    end = start + duration
    steps, place = np.unique(step, return_inverse=True)
    follows = np.zeros(len(step), np.bool_)
    follows[1:] = (rank[1:] == rank[:-1]) & (np.diff(place) == 1) & (start[1:] == end[:-1])
    begins = np.bincount(place, ~follows, len(steps)) > 0
    ends, starts = np.full((2, len(steps)), np.iinfo(np.int64).min)
    np.maximum.at(ends, place, end)
    np.maximum.at(starts, place, -start)
    alone = begins & np.append(begins[1:], True)
    lengths = np.where(alone, ends + starts, np.diff(ends, prepend=0))
    counts = alone | ~begins
    return StepTimes(steps=tuple(steps[counts].tolist()), lengths=lengths[counts])


def counted_steps(windows: pa.Table, replayed: Replayed) -> int:
    """Of how many steps the times are measured where these are replayed; windows: of them all."""
    chosen = pc.is_in(windows["step"], pa.array(replayed.steps, pa.int32()))
    return len(times_of([windows.filter(chosen)]).steps)


def step_times(graph: Graph, times: Ints) -> StepTimes:
    """Step times if points lie at `times`."""
    steps: list[int] = []
    lengths: list[int] = []
    for chain in graph.chains:
        ends = [int(times[list(points)].max()) for points in chain.ends]
        if len(ends) > 1:
            steps += chain.steps[1:]
            lengths += np.diff(ends).tolist()
        else:
            steps += chain.steps
            lengths.append(ends[0] - int(times[list(chain.begins)].min()))
    return StepTimes(steps=tuple(steps), lengths=np.array(lengths, np.int64))


def with_pieces(graph: Graph, duration: Ints) -> Ints:
    """The weights of all edges if the pieces of `graph.pieces` took `duration`, ns each."""
    change = duration - graph.pieces["duration"].to_numpy()
    weight = graph.weight.copy()
    rows = np.flatnonzero(change)
    np.add.at(weight, graph.pieces["edge"].to_numpy()[rows], change[rows])
    return np.maximum(weight, 0)


def with_transfers(graph: Graph, weight: Ints, duration: Ints) -> Ints:
    """`weight` with the transfers of `graph.transfers` taking `duration`, ns each."""
    changed = weight.copy()
    changed[graph.transfers["edge"].to_numpy()] = duration
    return changed
