"""Stragglers that are slow in every step: a rank against its peers, a stage against the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from dashboard.analysis.rows_by_key import Ints, medians, medians_of_other_rows, numbered
from dashboard.analysis.stragglers.work import (
    CLEAR,
    DATA,
    FEWEST_STEPS,
    NOTICED,
    WORK,
    Cause,
    Evidence,
    Floats,
    Suspect,
    Work,
    changed,
    evidence_of,
    scatter,
)

_ERROR_OF_MEDIAN: Final = 1.2533
"""Standard error of a median over that of a mean, √(π/2), for normally distributed values."""
_PART: Final = 0.15
"""Share of an excess from which a kind of work is named."""
_COMPARED: Final[tuple[tuple[int, Cause], ...]] = ((WORK, "slow rank"), (DATA, "data loading"))


def slow_ranks(work: Work) -> Iterator[Suspect]:
    """Ranks that work, or load data, longer than the median of their peers."""
    if not work.steps:
        return
    expected = np.zeros_like(work.spent)
    for team in work.teams:
        if len(team) > 1:
            expected[team] = medians_of_other_rows(work.spent[team])
    sizes = np.bincount(work.team)
    stages = _only_stages(work)
    for place in range(len(work.ranks)):
        if sizes[work.team[place]] < 2:
            continue
        for role, cause in _COMPARED:
            yield from _against(work, place, expected[place, role], role, cause, stages[place])


def slow_stages(work: Work) -> Iterator[Suspect]:
    """Stages that compute longer than the median of the other stages.

    A stage is as slow as the fastest rank that holds it: if only one of several is slow, it is
    that rank and not the stage.
    """
    stages, holders, least = _by_stage(work)
    if len(stages) < 2:
        return
    for stage, ranks, spent, others in zip(
        stages, holders, least, medians_of_other_rows(least), strict=True
    ):
        expected = float(np.median(others))
        clearness = _clearness(spent - others, expected)
        if clearness is None or expected <= 0:
            continue
        slowdown = float(np.median(spent)) / expected - 1
        rows = np.flatnonzero(work.computes & (work.stage == stage) & (work.step >= 0))
        yield Suspect(
            cause="slow stage",
            rank=ranks[0] if len(ranks) == 1 else None,
            stage=stage,
            alone=len(ranks) == 1,
            steps=work.steps,
            slowdown=slowdown,
            clearness=clearness,
            pieces=changed(rows, work.ns[rows] * (1 / (1 + slowdown))),
            evidence=_evidence(work, rows, slowdown),
        )


def _against(
    work: Work, place: int, others: Floats, role: int, cause: Cause, stage: int | None
) -> Iterator[Suspect]:
    own = work.spent[place, role]
    clearness = _clearness(own - others, float(work.usual[place]))
    if clearness is None:
        return
    spent, expected = float(np.median(own)), float(np.median(others))
    slowdown = spent / expected - 1 if expected > 0 else None
    rows = work.in_steps(place, role)
    yield Suspect(
        cause=cause,
        rank=work.ranks[place],
        stage=stage,
        steps=work.steps,
        slowdown=slowdown,
        clearness=clearness,
        pieces=changed(rows, work.ns[rows] * (expected / spent)),
        evidence=_evidence(work, rows, spent / expected - 1 if expected > 0 else np.inf),
        seen_in=_seen_in(work, place) if role == WORK else (),
    )


def _seen_in(work: Work, place: int) -> tuple[str, ...]:
    """The kinds that make up at least `_PART` of what the rank works beyond its peers.

    150, 120 and 1 of forward, backward and optimizer, peers 100, 100 and 1 → forward, backward
    """
    kinds, spent = work.by_kind
    team = work.teams[work.team[place]]
    excess = spent[place] - np.median(spent[team[team != place]], axis=0)
    least = _PART * excess[excess > 0].sum()
    order = np.argsort(-excess, kind="stable").tolist()
    return tuple(kinds[kind] for kind in order if excess[kind] >= least > 0)


def _clearness(excess: Floats, usual: float) -> float | None:
    """The median excess over the least that is noticed; None if it is not noticed."""
    if len(excess) < FEWEST_STEPS:
        return None
    error = _ERROR_OF_MEDIAN * scatter(excess) / np.sqrt(len(excess))
    needed = max(NOTICED * usual, CLEAR * float(error))
    found = float(np.median(excess))
    return found / needed if found > needed > 0 else None


def _by_stage(work: Work) -> tuple[list[int], list[list[int]], Floats]:
    """The stages in order; of each the ranks that compute for it; and the least that one of them
    computed for it in each step, ns.
    """
    rows = np.flatnonzero(work.computes & (work.stage >= 0))
    first, of = numbered(work.stage[rows], work.place[rows])
    steps = work.step[rows]
    timed = steps >= 0
    spent = np.bincount(
        of[timed] * len(work.steps) + steps[timed],
        weights=work.ns[rows[timed]],
        minlength=len(first) * len(work.steps),
    ).reshape(len(first), len(work.steps))
    stage = work.stage[rows[first]]
    stages, begins = np.unique(stage, return_index=True)
    least = np.minimum.reduceat(spent, begins, axis=0) if len(stages) else spent
    places = np.split(work.place[rows[first]], begins[1:])
    holders = [[work.ranks[place] for place in found.tolist()] for found in places]
    return stages.tolist(), holders, least.astype(np.float64)


def _only_stages(work: Work) -> list[int | None]:
    """Of each rank the stage that it computes for, if that is one."""
    computes = work.computes & (work.stage >= 0)
    place, stage = work.place[computes], work.stage[computes]
    first, _ = numbered(place, stage)
    counts = np.bincount(place[first], minlength=len(work.ranks))
    held = np.zeros(len(work.ranks), np.int64)
    held[place[first]] = stage[first]
    return [
        only if count == 1 else None
        for only, count in zip(held.tolist(), counts.tolist(), strict=True)
    ]


def _evidence(work: Work, rows: Ints, slowdown: float) -> tuple[Evidence, ...]:
    """The actions that exceed most what would be usual without the slowdown."""
    cells = np.unique(work.cells.of[rows])
    expected = medians(work.cells.like[cells], work.cells.ns[cells]) / (1 + slowdown)
    return evidence_of(work, cells, expected)
