"""What could be otherwise in a run: each scenario gives pieces and transfers new durations.

A scenario changes durations and nothing else: what waits for what stays as recorded. Others can be
applied on top of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.points import Ints
from dashboard.analysis.replay.graph import Graph
from tracer.errors import UsageError

TOLERANCE: Final = 0.05
"""Excess over what is usual that is no straggling: less is the noise of most machines."""


@dataclass(kw_only=True, frozen=True)
class Durations:
    """In ns: of each row of `graph.pieces`, and of each of `graph.transfers`."""

    pieces: Ints
    transfers: Ints


@dataclass(kw_only=True, frozen=True)
class Scenario:
    """`name` says what is otherwise; `apply` changes the durations of a graph."""

    name: str
    apply: Callable[[Graph, Durations], Durations]


def as_recorded(graph: Graph) -> Durations:
    """The durations of the recording."""
    return Durations(
        pieces=graph.pieces["duration"].to_numpy(), transfers=graph.transfers["duration"].to_numpy()
    )


def stage_takes(stage: int, factor: float) -> Scenario:
    """The compute of `stage` takes `factor` times as long.

    Raises:
        UsageError: (when applied) the run has no such stage.
    """

    def apply(graph: Graph, before: Durations) -> Durations:
        return _scaled_stages(graph, before, {stage: factor})

    return Scenario(name=f"stage {stage} takes {100 * factor:.4g} % of its time", apply=apply)


def balanced_stages() -> Scenario:
    """Every stage computes as long as the mean of all; the sum stays."""

    def apply(graph: Graph, before: Durations) -> Durations:
        totals = stage_totals(graph, before)
        mean = sum(totals.values()) / len(totals) if totals else 0.0
        factors = {stage: mean / total for stage, total in totals.items() if total}
        return _scaled_stages(graph, before, factors)

    return Scenario(name="balanced stages", apply=apply)


def moved_layers(source: int, target: int, share: float) -> Scenario:
    """`share` (0 to 1) of the layers of stage `source` are moved to stage `target`."""

    def apply(graph: Graph, before: Durations) -> Durations:
        totals = stage_totals(graph, before)
        _known_stage(source, totals)
        _known_stage(target, totals)
        more = share * totals[source] / totals[target] if totals[target] else 0.0
        return _scaled_stages(graph, before, {source: 1 - share, target: 1 + more})

    return Scenario(
        name=f"{100 * share:.4g} % of stage {source} moved to stage {target}", apply=apply
    )


def faster_communication(dim: str, times: float) -> Scenario:
    """Transfers of groups of mesh dimension `dim` are `times` as fast; inf: they take no time.

    What a host needs to issue and to take up an operation stays. A collective whose last member
    never waits is that member's own work; its part inside the call is made faster, too.

    Raises:
        UsageError: (when applied) the run has no communication of that dimension.
    """
    category = f"comm:{dim}"

    def apply(graph: Graph, before: Durations) -> Durations:
        theirs = _is(graph.transfers, "category", category)
        own = _is(graph.pieces, "category", category) & _is(graph.pieces, "kind", "collective")
        if not theirs.any() and not own.any():
            known = pc.unique(graph.transfers["category"]).to_pylist()
            dims = ", ".join(sorted(c.removeprefix("comm:") for c in known)) or "none"
            raise UsageError(
                f"no communication of dimension {dim!r} was recorded; there is: {dims}"
            )
        return Durations(
            pieces=np.where(own, before.pieces / times, before.pieces).astype(np.int64),
            transfers=np.where(theirs, before.transfers / times, before.transfers).astype(np.int64),
        )

    said = "free" if np.isinf(times) else f"{times:.4g}× as fast"
    return Scenario(name=f"{dim} communication {said}", apply=apply)


def no_stragglers() -> Scenario:
    """No action takes longer than is usual for it, and no gap, data loading or optimizer step.

    An action (a kind of a stage) is usual as long as the median of the other ranks that hold the
    stage, or, where there are none, the median of its own rank. Everything else is as usual as the
    median over the rank's own steps. Excess up to `TOLERANCE` stays.
    """

    def apply(graph: Graph, before: Durations) -> Durations:
        factor = np.ones(len(before.pieces))
        compute = _is(graph.pieces, "category", "compute")
        _usual_actions(graph, before, compute, factor)
        _usual_rest(graph, before, ~compute, factor)
        return Durations(
            pieces=np.rint(before.pieces * factor).astype(np.int64), transfers=before.transfers
        )

    return Scenario(name="no stragglers", apply=apply)


def together(scenarios: Sequence[Scenario]) -> Scenario:
    """All of them, applied one after the other."""
    return Scenario(
        name=", ".join(scenario.name for scenario in scenarios),
        apply=lambda graph, before: reduce(lambda now, s: s.apply(graph, now), scenarios, before),
    )


def stage_totals(graph: Graph, durations: Durations) -> dict[int, float]:
    """Compute per stage over all steps, ns, the mean of the ranks that hold it."""
    stage, rank = _stages(graph), graph.pieces["rank"].to_numpy()
    found = {}
    for number in np.unique(stage[stage >= 0]).tolist():
        mine = stage == number
        ranks = len(np.unique(rank[mine]))
        found[int(number)] = float(durations.pieces[mine].sum()) / ranks
    return found


def _stages(graph: Graph) -> Ints:
    """The stage of each piece of compute; -1 for all others."""
    stage = pc.fill_null(graph.pieces["stage"], -1).to_numpy().astype(np.int64)
    return np.where(_is(graph.pieces, "category", "compute"), stage, -1)


def _scaled_stages(graph: Graph, before: Durations, factors: Mapping[int, float]) -> Durations:
    stage = _stages(graph)
    factor = np.ones(len(stage))
    known = np.unique(stage[stage >= 0]).tolist()
    for number, times in factors.items():
        _known_stage(number, known)
        factor[stage == number] = times
    return Durations(
        pieces=np.rint(before.pieces * factor).astype(np.int64), transfers=before.transfers
    )


def _known_stage(stage: int, known: Mapping[int, float] | list[int]) -> None:
    if stage not in known:
        there = ", ".join(str(number) for number in known) or "none"
        raise UsageError(f"the run has no work of stage {stage}; it has: {there}")


def _is(table: pa.Table, column: str, value: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = pc.equal(table[column], value).to_numpy()
    return found


def _usual_actions(
    graph: Graph,
    before: Durations,
    compute: np.ndarray[tuple[int], np.dtype[np.bool_]],
    factor: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    """Set `factor` of the pieces of actions that took longer than usual."""
    frame = _frame(graph, before).filter(compute)
    keys = ["rank", "step", "stage", "kind", "microbatch"]
    actions = frame.group_by(keys, use_threads=False).aggregate([("ns", "sum")])
    usual = _usual(actions, ["stage", "kind"])
    _set(frame, actions, keys, usual, np.flatnonzero(compute), factor)


def _usual_rest(
    graph: Graph,
    before: Durations,
    rest: np.ndarray[tuple[int], np.dtype[np.bool_]],
    factor: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    """Likewise for what a rank spends per step on each category but compute."""
    frame = _frame(graph, before).filter(rest)
    keys = ["rank", "step", "category"]
    spent = frame.group_by(keys, use_threads=False).aggregate([("ns", "sum")])
    usual = _medians(spent, ["rank", "category"])
    _set(frame, spent, keys, usual, np.flatnonzero(rest), factor)


def _frame(graph: Graph, durations: Durations) -> pa.Table:
    """The pieces with the step that they lie in and their duration."""
    columns = ("rank", "stage", "kind", "microbatch", "category")
    table = graph.pieces.select(columns)
    return table.append_column("step", pa.array(steps_of(graph))).append_column(
        "ns", pa.array(durations.pieces)
    )


def steps_of(graph: Graph) -> Ints:
    """The step in which each piece lies, also where no span says so."""
    start, rank = graph.pieces["start"].to_numpy(), graph.pieces["rank"].to_numpy()
    found = np.full(len(start), -1, np.int64)
    for chain in graph.chains:
        for number, begin in enumerate(chain.begins):
            ends = np.array([graph.time[points[number]] for points in chain.ends], np.int64)
            mine = (rank == graph.rank[begin]) & (start >= graph.time[begin]) & (start < ends[-1])
            steps = np.array(chain.steps, np.int64)
            found[mine] = steps[np.searchsorted(ends, start[mine], side="right")]
    return found


def _usual(actions: pa.Table, keys: list[str]) -> list[float]:
    """For each action the median of its peers: the same keys on other ranks, else on its own."""
    theirs: dict[tuple[object, ...], dict[int, list[float]]] = {}
    rows = list(zip(*(actions[key].to_pylist() for key in keys), strict=True))
    ranks, spent = actions["rank"].to_pylist(), actions["ns_sum"].to_pylist()
    for key, rank, ns in zip(rows, ranks, spent, strict=True):
        theirs.setdefault(key, {}).setdefault(rank, []).append(ns)
    usual = {}
    for key, by_rank in theirs.items():
        for rank in by_rank:
            others = [ns for other, found in by_rank.items() if other != rank for ns in found]
            usual[key, rank] = float(np.median(others or by_rank[rank]))
    # A rank that is slow itself must not be the measure of the others: the lower of both counts.
    own = {
        (key, rank): float(np.median(ns)) for key, by in theirs.items() for rank, ns in by.items()
    }
    return [min(usual[key, rank], own[key, rank]) for key, rank in zip(rows, ranks, strict=True)]


def _medians(table: pa.Table, keys: list[str]) -> list[float]:
    rows = list(zip(*(table[key].to_pylist() for key in keys), strict=True))
    found: dict[tuple[object, ...], list[float]] = {}
    for key, ns in zip(rows, table["ns_sum"].to_pylist(), strict=True):
        found.setdefault(key, []).append(ns)
    medians = {key: float(np.median(values)) for key, values in found.items()}
    return [medians[key] for key in rows]


def _set(
    frame: pa.Table,
    groups: pa.Table,
    keys: list[str],
    usual: list[float],
    places: Ints,
    factor: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    shrink = {}
    of_group = zip(*(groups[key].to_pylist() for key in keys), strict=True)
    for key, spent, expected in zip(of_group, groups["ns_sum"].to_pylist(), usual, strict=True):
        if spent > (1 + TOLERANCE) * expected:
            shrink[key] = expected / spent
    of_piece = zip(*(frame[key].to_pylist() for key in keys), strict=True)
    for place, key in zip(places.tolist(), of_piece, strict=True):
        factor[place] = shrink.get(key, 1.0)
