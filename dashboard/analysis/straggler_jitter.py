"""Stragglers that come now and then: slow steps, data loading, garbage collection, gaps.

They are told apart by where the excess of a step lies: in work, in spans of data loading, in
garbage collections, or in gaps in which the rank waited for nobody and no span says what it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from dashboard.analysis.points import Ints
from dashboard.analysis.straggler_work import (
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

_CAUSES: Final[tuple[tuple[Cause, int], ...]] = (
    ("slow steps", WORK),
    ("data loading", DATA),
    ("garbage collection", GARBAGE),
    ("host gaps", IDLE),
)


def jitter(work: Work) -> Iterator[Suspect]:
    """For each rank and cause, the steps in which it took more than usual for the rank."""
    if len(work.steps) < FEWEST_STEPS:
        return
    late = {rank: _excess(work.per_step(work.of(rank, WORK))) for rank in work.ranks}
    for rank in work.ranks:
        noticed = NOTICED * work.usual(rank)
        for cause, role in _CAUSES:
            mine = work.of(rank, role)
            spent = work.per_step(mine)
            shared = _shared(late, rank) if role == WORK else np.zeros(len(spent))
            # No garbage collection is needed at all, but some of everything else.
            usual = 0.0 if role == GARBAGE else float(np.median(spent))
            needed = max(noticed, 0.0 if role == GARBAGE else CLEAR * scatter(spent))
            slow = spent - usual - shared > needed
            if needed > 0 and slow.any():
                yield _suspect(work, rank, cause, mine, spent, usual, slow, needed)


def _excess(spent: Floats) -> Floats:
    return spent - np.median(spent)


def _shared(late: Mapping[int, Floats], rank: int) -> Floats:
    """By how much the other ranks were late in each step, the median: what slows down all of them
    (a busy machine, a longer batch) makes no single one a straggler.
    """
    others = [excess for other, excess in late.items() if other != rank]
    if not others:
        return np.zeros(len(late[rank]))
    found: Floats = np.maximum(np.median(others, axis=0), 0.0)
    return found


def _suspect(
    work: Work,
    rank: int,
    cause: Cause,
    mine: Bools,
    spent: Floats,
    usual: float,
    slow: Bools,
    needed: float,
) -> Suspect:
    concerned = mine & (work.step >= 0) & slow[np.maximum(work.step, 0)]
    cells = np.unique(work.cells.of[concerned])
    expected = _expected(work, rank, cells) if cause == "slow steps" else np.zeros(len(cells))
    pieces = work.ns.copy()
    for step in np.flatnonzero(slow).tolist():
        here = np.flatnonzero(concerned & (work.step == step))
        if cause == "slow steps":
            _share(work, pieces, here, cells, expected, spent[step] - usual)
        else:
            pieces[here] = clipped(work.ns[here], usual)
    return Suspect(
        cause=cause,
        rank=rank,
        steps=tuple(work.steps[step] for step in np.flatnonzero(slow)),
        slowdown=float(spent[slow].mean()) / usual - 1 if usual > 0 else None,
        clearness=float((spent[slow] - usual).mean()) / needed,
        pieces=pieces,
        evidence=evidence_of(work, cells, expected),
    )


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


def _expected(work: Work, rank: int, chosen: Ints) -> Floats:
    """For each of the chosen cells, the median of the rank's cells that do the same."""
    cells = work.cells
    theirs = (cells.rank == rank) & (cells.step >= 0)
    medians = {
        like: float(np.median(cells.ns[theirs & (cells.like == like)]))
        for like in np.unique(cells.like[chosen]).tolist()
    }
    return np.array([medians[like] for like in cells.like[chosen].tolist()], np.float64)


def _share(
    work: Work, pieces: Ints, here: Ints, cells: Ints, expected: Floats, excess: float
) -> None:
    """Take the excess of a step from its actions, each in proportion to its own excess."""
    in_step = np.isin(cells, work.cells.of[here])
    too_long = np.maximum(work.cells.ns[cells] - expected, 0.0) * in_step
    total = float(too_long.sum())
    if total <= 0:
        return
    cut = np.minimum(too_long, too_long * excess / total)
    factor = np.ones(len(work.cells.ns))
    factor[cells] = 1 - cut / np.maximum(work.cells.ns[cells], 1)
    pieces[here] = np.rint(work.ns[here] * factor[work.cells.of[here]]).astype(np.int64)
