"""Stragglers that come now and then: slow steps, stalls, data loading, garbage collection, gaps.

They are told apart by where the excess of a step lies: in all work alike, in single actions, in
spans of data loading, in garbage collections, or in gaps in which the rank waited for nobody and
no span says what it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from dashboard.analysis.rows_by_key import Ints, medians, medians_of_other_rows, rows_by_key
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
    Change,
    Floats,
    Suspect,
    Work,
    changed,
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

    place: int
    cells: Ints
    expected: Floats
    usual: float
    excess: Floats
    common: Floats


def jitter(work: Work) -> Iterator[Suspect]:
    """For each rank and cause, the steps in which it took more than usual for the rank."""
    if len(work.steps) < FEWEST_STEPS:
        return
    cells = work.cells
    worked = np.flatnonzero((cells.role == WORK) & (cells.step >= 0))
    of_place = rows_by_key(cells.place[worked], len(work.ranks))
    steps = [_steps(work, place, worked[of_place[place]]) for place in range(len(work.ranks))]
    shared = _shared([mine.common for mine in steps])
    for mine, of_others in zip(steps, shared, strict=True):
        noticed = NOTICED * mine.usual
        yield from _slow_steps(work, mine, mine.common - of_others, noticed)
        yield from _stalls(work, mine, noticed)
        for cause, role in _OTHER_CAUSES:
            yield from _in_role(work, mine.place, cause, role, noticed)


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


def _steps(work: Work, place: int, cells: Ints) -> _Steps:
    """Of a rank with those cells of work."""
    ns, step_of = work.cells.ns[cells], work.cells.step[cells]
    expected = medians(work.cells.like[cells], ns)
    usual = float(work.usual[place])
    common = np.zeros(len(work.steps))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(expected > 0, ns / expected - 1, 0.0)
    ends = np.searchsorted(step_of, np.arange(len(common) + 1))  # cells are in order of step
    for step, (begin, end) in enumerate(pairwise(ends.tolist())):
        common[step] = usual * weighted_median(share[begin:end], expected[begin:end])
    spent = work.spent[place, WORK]
    return _Steps(
        place=place,
        cells=cells,
        expected=expected,
        usual=usual,
        excess=spent - np.median(spent),
        common=common,
    )


def _shared(common: Sequence[Floats]) -> Floats:
    """For each rank by how much the others were late in each step, the median: what slows down all
    of them (a busy machine, a longer batch) makes no single one a straggler.
    """
    late = np.array(common)
    if len(late) < 2:
        return np.zeros_like(late)
    return np.maximum(medians_of_other_rows(late), 0.0)


def _slow_steps(work: Work, mine: _Steps, excess: Floats, noticed: float) -> Iterator[Suspect]:
    """Steps in which all work of the rank takes longer alike."""
    needed = max(noticed, CLEAR * scatter(mine.common))
    slow = excess > needed
    if mine.usual <= 0 or not slow.any():
        return
    slowdown = mine.common / mine.usual
    rows = work.in_steps(mine.place, WORK)
    rows = rows[slow[work.step[rows]]]
    chosen = slow[work.cells.step[mine.cells]]
    yield Suspect(
        cause="slow steps",
        rank=work.ranks[mine.place],
        steps=_numbers(work, slow),
        slowdown=float(slowdown[slow].mean()),
        clearness=float(excess[slow].mean()) / needed,
        pieces=changed(rows, work.ns[rows] / (1 + slowdown[work.step[rows]])),
        evidence=evidence_of(work, mine.cells[chosen], mine.expected[chosen]),
    )


def _stalls(work: Work, mine: _Steps, noticed: float) -> Iterator[Suspect]:
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
    kept = 1 - too_long * part[step_of] / np.maximum(work.cells.ns[mine.cells], 1)
    chosen = slow[step_of]
    rows = work.in_steps(mine.place, WORK)
    cell = np.searchsorted(mine.cells, work.cells.of[rows])
    yield Suspect(
        cause="stalls",
        rank=work.ranks[mine.place],
        steps=_numbers(work, slow),
        slowdown=float(alone[slow].mean()) / mine.usual,
        clearness=float(alone[slow].mean()) / needed,
        pieces=changed(rows, work.ns[rows] * kept[cell]),
        evidence=evidence_of(work, mine.cells[chosen], expected[chosen]),
    )


def _in_role(work: Work, place: int, cause: Cause, role: int, noticed: float) -> Iterator[Suspect]:
    """Steps in which the rank spends more than usual on something other than work."""
    spent = work.spent[place, role]
    # No garbage collection is needed at all, but some of everything else.
    usual = 0.0 if role == GARBAGE else float(np.median(spent))
    needed = max(noticed, 0.0 if role == GARBAGE else CLEAR * scatter(spent))
    slow: Bools = spent - usual > needed
    if needed <= 0 or not slow.any():
        return
    rows = work.in_steps(place, role)
    rows = rows[slow[work.step[rows]]]
    ns = work.ns[rows]
    for step in np.flatnonzero(slow).tolist():
        here = np.flatnonzero(work.step[rows] == step)
        ns[here] = clipped(ns[here], usual)
    cells = np.unique(work.cells.of[rows])
    yield Suspect(
        cause=cause,
        rank=work.ranks[place],
        steps=_numbers(work, slow),
        slowdown=float(spent[slow].mean()) / usual - 1 if usual > 0 else None,
        clearness=float((spent[slow] - usual).mean()) / needed,
        pieces=Change(rows=rows, ns=ns),
        evidence=evidence_of(work, cells, np.full(len(cells), usual)),
    )


def _numbers(work: Work, slow: Bools) -> tuple[int, ...]:
    return tuple(work.steps[step] for step in np.flatnonzero(slow))
