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

from dashboard.analysis.replay.graph import Graph
from dashboard.analysis.rows_by_key import (
    Floats,
    Ints,
    medians,
    medians_of_others,
    numbered,
    rows_by_key,
    sums,
    words_numbered,
)
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
        keys = _keys_of(graph)
        for chosen, of_one, usual in (
            (compute, ("rank", "step", "stage", "kind", "microbatch"), _usual_action),
            (~compute, ("rank", "step", "category"), _usual_rest),
        ):
            rows = np.flatnonzero(chosen)
            first, of = numbered(*(keys[name][rows] for name in of_one))
            spent = sums(of, before.pieces[rows], len(first))
            expected = usual({name: known[rows[first]] for name, known in keys.items()}, spent)
            with np.errstate(divide="ignore", invalid="ignore"):
                shrunk = np.where(spent > (1 + TOLERANCE) * expected, expected / spent, 1.0)
            factor[rows] = shrunk[of]
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
    stage = _stages(graph)
    rows = np.flatnonzero(stage >= 0)
    first, of = numbered(stage[rows])
    total = sums(of, durations.pieces[rows], len(first))
    holders, _ = numbered(of, graph.pieces["rank"].to_numpy()[rows])
    ranks = np.bincount(of[holders], minlength=len(first))
    numbers = stage[rows[first]].tolist()
    return {
        number: float(ns) / count
        for number, ns, count in zip(numbers, total.tolist(), ranks.tolist(), strict=True)
    }


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


def _keys_of(graph: Graph) -> dict[str, Ints]:
    """What tells pieces apart, as numbers; -1 where there is none."""
    pieces = graph.pieces
    found = {
        name: pc.fill_null(pieces[name], -1).to_numpy().astype(np.int64)
        for name in ("rank", "stage", "microbatch")
    }
    found |= {name: words_numbered(pieces[name])[1] for name in ("kind", "category")}
    return found | {"step": steps_of(graph)}


def _usual_action(keys: Mapping[str, Ints], spent: Ints) -> Floats:
    """For each action the median of its peers: the same stage and kind on other ranks, else on its
    own. A rank that is slow itself must not be the measure of the others: if its own median is
    lower, that counts.
    """
    first, kinds = numbered(keys["stage"], keys["kind"])
    _, own = numbered(kinds, keys["rank"])
    usual = np.zeros(len(spent))
    by_kind = rows_by_key(kinds, len(first))
    for kind in range(len(first)):
        mine = by_kind[kind]
        usual[mine] = medians_of_others(keys["rank"][mine], spent[mine])
    return np.minimum(usual, medians(own, spent))


def _usual_rest(keys: Mapping[str, Ints], spent: Ints) -> Floats:
    """For what a rank spends per step on each category but compute, its median over the steps."""
    return medians(numbered(keys["rank"], keys["category"])[1], spent)


def steps_of(graph: Graph) -> Ints:
    """The step in which each piece lies, also where no span says so."""
    start, rank = graph.pieces["start"].to_numpy(), graph.pieces["rank"].to_numpy()
    found = np.full(len(start), -1, np.int64)
    order = np.lexsort((start, rank))
    ordered, rank = start[order], rank[order]
    for chain in graph.chains:
        steps = np.array(chain.steps, np.int64)
        ends_of = graph.time[np.array(chain.ends, np.int64)]
        for begin, ends in zip(chain.begins, ends_of.T, strict=True):
            low, high = np.searchsorted(rank, (graph.rank[begin], graph.rank[begin] + 1))
            first, last = np.searchsorted(ordered[low:high], (graph.time[begin], ends[-1]))
            mine = order[low + first : low + last]
            found[mine] = steps[np.searchsorted(ends, start[mine], side="right")]
    return found
