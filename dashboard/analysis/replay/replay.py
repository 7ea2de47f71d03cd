"""Replay a dependency graph: when each point would come if its edges weighed something else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboard.analysis.replay.edges import in_rows
from dashboard.analysis.replay.graph import Graph
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import Ints
from dashboard.analysis.steps import Windows, chained

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
    return times_of(chained(run, steps))


def times_of(found: Iterable[Windows]) -> StepTimes:
    """The same of chains of step windows that are known."""
    numbers: list[int] = []
    lengths: list[int] = []
    for chain in found:
        ends = [max(end for _, end in ranks.values()) for ranks in chain.by_step.values()]
        numbers_here = list(chain.by_step)
        if len(ends) > 1:
            numbers += numbers_here[1:]
            lengths += np.diff(ends).tolist()
        else:
            numbers += numbers_here
            (ranks,) = chain.by_step.values()
            lengths.append(ends[0] - min(begin for begin, _ in ranks.values()))
    return StepTimes(steps=tuple(numbers), lengths=np.array(lengths, np.int64))


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
