"""Stragglers that come now and then: slow steps, stalls, data loading, garbage collection, gaps.

They are told apart by where the excess of a step lies: in all work alike, in single actions, in
spans of data loading, in garbage collections, or in gaps in which the rank waited for nobody and
no span says what it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dashboard.analysis.communication.points import Ints
from dashboard.analysis.stragglers.work import (
    CLEAR,
    DATA,
    FEWEST_STEPS,
    GARBAGE,
    IDLE,
    NOTICED,
    WORK,
    Bools,
    Cause,
    Floats,
    Suspect,
    Work,
    evidence_of,
    scatter,
)

_OTHER_CAUSES: Final[tuple[tuple[Cause, int], ...]] = (
    ("data loading", DATA),
    ("garbage collection", GARBAGE),
    ("host gaps", IDLE),
)


@dataclass(kw_only=True, frozen=True)
class _Steps:
    """The work of a rank by step, ns: cells and what is usual for each; what all of it took beyond
    that; and what of that is common to its actions (the median share, of the usual work).
    """

    cells: Ints
    expected: Floats
    usual: float
    excess: Floats
    common: Floats


def jitter(work: Work) -> Iterator[Suspect]:
    """For each rank and cause, the steps in which it took more than usual for the rank."""
    if len(work.steps) < FEWEST_STEPS:
        return
    worked = {rank: _steps(work, rank) for rank in work.ranks}
    for rank, mine in worked.items():
        noticed = NOTICED * mine.usual
        shared = _shared({r: steps.common for r, steps in worked.items()}, rank)
        yield from _slow_steps(work, rank, mine, mine.common - shared, noticed)
        yield from _stalls(work, rank, mine, noticed)
        for cause, role in _OTHER_CAUSES:
            yield from _in_role(work, rank, cause, role, noticed)


def clipped(durations: Ints, total: float) -> Ints:
    """The longest ones cut to one length, so that all together take `total` at most.

    `[1, 9, 2]` cut to 7 → `[1, 4, 2]`: a pause that comes now and then makes one piece long.
    """
    order = np.sort(durations)
    kept = np.concatenate([[0], np.cumsum(order)[:-1]])
    left = len(order) - np.arange(len(order))
    levels = (total - kept) / left
    within = levels <= order
    level = float(levels[within][0]) if within.any() else np.inf
    return np.minimum(durations, np.rint(max(level, 0.0))).astype(np.int64)


def weighted_median(values: Floats, weights: Floats) -> float:
    """The least value up to which half of the weight lies; 0 where there is none."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    if not len(reached) or reached[-1] <= 0:
        return 0.0
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _steps(work: Work, rank: int) -> _Steps:
    cells = np.flatnonzero(
        (work.cells.rank == rank) & (work.cells.role == WORK) & (work.cells.step >= 0)
    )
    expected = _expected(work, cells)
    usual = work.usual(rank)
    common = np.zeros(len(work.steps))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(expected > 0, work.cells.ns[cells] / expected - 1, 0.0)
    for step in range(len(common)):
        here = work.cells.step[cells] == step
        common[step] = usual * weighted_median(share[here], expected[here])
    spent = work.per_step(work.of(rank, WORK))
    return _Steps(
        cells=cells, expected=expected, usual=usual, excess=spent - np.median(spent), common=common
    )


def _expected(work: Work, chosen: Ints) -> Floats:
    """For each of the chosen cells, the median of those of them that do the same."""
    like, ns = work.cells.like[chosen], work.cells.ns[chosen]
    found = np.zeros(len(chosen))
    for kind in np.unique(like):
        found[like == kind] = np.median(ns[like == kind])
    return found


def _shared(common: Mapping[int, Floats], rank: int) -> Floats:
    """By how much the other ranks were late in each step, the median: what slows down all of them
    (a busy machine, a longer batch) makes no single one a straggler.
    """
    others = [excess for other, excess in common.items() if other != rank]
    if not others:
        return np.zeros(len(common[rank]))
    found: Floats = np.maximum(np.median(others, axis=0), 0.0)
    return found


def _slow_steps(
    work: Work, rank: int, mine: _Steps, excess: Floats, noticed: float
) -> Iterator[Suspect]:
    """Steps in which all work of the rank takes longer alike."""
    needed = max(noticed, CLEAR * scatter(mine.common))
    slow = excess > needed
    if mine.usual <= 0 or not slow.any():
        return
    slowdown = mine.common / mine.usual
    pieces = work.ns.copy()
    for step in np.flatnonzero(slow).tolist():
        here = work.of(rank, WORK) & (work.step == step)
        pieces[here] = np.rint(work.ns[here] / (1 + slowdown[step])).astype(np.int64)
    chosen = slow[work.cells.step[mine.cells]]
    yield Suspect(
        cause="slow steps",
        rank=rank,
        steps=_numbers(work, slow),
        slowdown=float(slowdown[slow].mean()),
        clearness=float(excess[slow].mean()) / needed,
        pieces=pieces,
        evidence=evidence_of(work, mine.cells[chosen], mine.expected[chosen]),
    )


def _stalls(work: Work, rank: int, mine: _Steps, noticed: float) -> Iterator[Suspect]:
    """Steps in which single actions take longer by what the others of the step do not."""
    alone = mine.excess - np.maximum(mine.common, 0.0)
    needed = max(noticed, CLEAR * scatter(mine.excess))
    slow = alone > needed
    if mine.usual <= 0 or not slow.any():
        return
    step_of = work.cells.step[mine.cells]
    expected = mine.expected * (1 + np.maximum(mine.common, 0.0)[step_of] / mine.usual)
    too_long = np.maximum(work.cells.ns[mine.cells] - expected, 0.0)
    total = np.bincount(step_of, weights=too_long, minlength=len(alone))
    part = np.where(slow & (total > 0), np.minimum(1.0, alone / np.maximum(total, 1.0)), 0.0)
    kept = np.ones(len(work.cells.ns))
    kept[mine.cells] = 1 - too_long * part[step_of] / np.maximum(work.cells.ns[mine.cells], 1)
    chosen = slow[step_of]
    yield Suspect(
        cause="stalls",
        rank=rank,
        steps=_numbers(work, slow),
        slowdown=float(alone[slow].mean()) / mine.usual,
        clearness=float(alone[slow].mean()) / needed,
        pieces=np.rint(work.ns * kept[work.cells.of]).astype(np.int64),
        evidence=evidence_of(work, mine.cells[chosen], expected[chosen]),
    )


def _in_role(work: Work, rank: int, cause: Cause, role: int, noticed: float) -> Iterator[Suspect]:
    """Steps in which the rank spends more than usual on something other than work."""
    mine = work.of(rank, role)
    spent = work.per_step(mine)
    # No garbage collection is needed at all, but some of everything else.
    usual = 0.0 if role == GARBAGE else float(np.median(spent))
    needed = max(noticed, 0.0 if role == GARBAGE else CLEAR * scatter(spent))
    slow: Bools = spent - usual > needed
    if needed <= 0 or not slow.any():
        return
    pieces = work.ns.copy()
    for step in np.flatnonzero(slow).tolist():
        here = np.flatnonzero(mine & (work.step == step))
        pieces[here] = clipped(work.ns[here], usual)
    cells = np.unique(work.cells.of[mine & (work.step >= 0) & slow[np.maximum(work.step, 0)]])
    yield Suspect(
        cause=cause,
        rank=rank,
        steps=_numbers(work, slow),
        slowdown=float(spent[slow].mean()) / usual - 1 if usual > 0 else None,
        clearness=float((spent[slow] - usual).mean()) / needed,
        pieces=pieces,
        evidence=evidence_of(work, cells, np.full(len(cells), usual)),
    )


def _numbers(work: Work, slow: Bools) -> tuple[int, ...]:
    return tuple(work.steps[step] for step in np.flatnonzero(slow))
