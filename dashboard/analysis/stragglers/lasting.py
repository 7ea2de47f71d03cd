"""Stragglers that are slow in every step: a rank against its peers, a stage against the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dashboard.analysis.stragglers.work import (
    CLEAR,
    DATA,
    FEWEST_STEPS,
    NOTICED,
    WORK,
    Bools,
    Cause,
    Evidence,
    Floats,
    Suspect,
    Work,
    evidence_of,
    scatter,
)

_ERROR_OF_MEDIAN: Final = 1.2533
"""Standard error of a median over that of a mean, √(π/2), for normally distributed values."""


def slow_ranks(work: Work) -> Iterator[Suspect]:
    """Ranks that work, or load data, longer than the median of their peers."""
    for rank in work.ranks:
        peers = work.peers(rank)
        if not peers:
            continue
        yield from _against(work, rank, peers, WORK, "slow rank")
        yield from _against(work, rank, peers, DATA, "data loading")


def slow_stages(work: Work) -> Iterator[Suspect]:
    """Stages that compute longer than the median of the other stages.

    A stage is as slow as the fastest rank that holds it: if only one of several is slow, it is
    that rank and not the stage.
    """
    holders = _holders(work)
    if len(holders) < 2:
        return
    spent = {
        stage: np.min([work.per_step(_compute(work, rank, stage)) for rank in ranks], axis=0)
        for stage, ranks in holders.items()
    }
    medians = median_of_others(np.array(list(spent.values())))
    for (stage, ranks), others in zip(holders.items(), medians, strict=True):
        expected = float(np.median(others))
        clearness = _clearness(spent[stage] - others, expected)
        if clearness is None or expected <= 0:
            continue
        slowdown = float(np.median(spent[stage])) / expected - 1
        mine = work.computes & (work.stage == stage) & (work.step >= 0)
        yield Suspect(
            cause="slow stage",
            rank=ranks[0] if len(ranks) == 1 else None,
            stage=stage,
            alone=len(ranks) == 1,
            steps=work.steps,
            slowdown=slowdown,
            clearness=clearness,
            pieces=_scaled(work, mine, 1 / (1 + slowdown)),
            evidence=_evidence(work, mine, slowdown),
        )


def median_of_others(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each row the median of all other rows, column by column; two rows or more.

    ```
    1  10        6  30      (of 5 and 7, of 40 and 20)
    5  40   →    4  15
    7  20        3  25
    ```
    """
    ordered = np.sort(values, axis=0)
    place = np.argsort(np.argsort(values, axis=0), axis=0)
    others = len(values) - 1
    # Without its own place, what stands at k in the order of all stands there still, or after it.
    low, high = ((k + (place <= k)) for k in ((others - 1) // 2, others // 2))
    taken: npt.NDArray[np.float64] = np.take_along_axis(ordered, low, axis=0)
    return (taken + np.take_along_axis(ordered, high, axis=0)) / 2


def _against(
    work: Work, rank: int, peers: Sequence[int], role: int, cause: Cause
) -> Iterator[Suspect]:
    mine = work.of(rank, role) & (work.step >= 0)
    own = work.per_step(mine)
    others = np.median([work.per_step(work.of(peer, role)) for peer in peers], axis=0)
    clearness = _clearness(own - others, work.usual(rank))
    if clearness is None:
        return
    spent, expected = float(np.median(own)), float(np.median(others))
    slowdown = spent / expected - 1 if expected > 0 else None
    yield Suspect(
        cause=cause,
        rank=rank,
        stage=_only_stage(work, rank),
        steps=work.steps,
        slowdown=slowdown,
        clearness=clearness,
        pieces=_scaled(work, mine, expected / spent),
        evidence=_evidence(work, mine, spent / expected - 1 if expected > 0 else np.inf),
    )


def _clearness(excess: Floats, usual: float) -> float | None:
    """The median excess over the least that is noticed; None if it is not noticed."""
    if len(excess) < FEWEST_STEPS:
        return None
    error = _ERROR_OF_MEDIAN * scatter(excess) / np.sqrt(len(excess))
    needed = max(NOTICED * usual, CLEAR * float(error))
    found = float(np.median(excess))
    return found / needed if found > needed > 0 else None


def _holders(work: Work) -> dict[int, list[int]]:
    """stage → the ranks that compute for it."""
    found: dict[int, list[int]] = {}
    chosen = work.computes & (work.stage >= 0)
    for stage in np.unique(work.stage[chosen]).tolist():
        found[stage] = np.unique(work.rank[chosen & (work.stage == stage)]).tolist()
    return found


def _compute(work: Work, rank: int, stage: int) -> Bools:
    found: Bools = work.computes & (work.rank == rank) & (work.stage == stage)
    return found


def _only_stage(work: Work, rank: int) -> int | None:
    stages = [stage for stage, ranks in _holders(work).items() if rank in ranks]
    return stages[0] if len(stages) == 1 else None


def _scaled(work: Work, mine: Bools, factor: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.where(mine, np.rint(work.ns * factor), work.ns).astype(np.int64)


def _evidence(work: Work, mine: Bools, slowdown: float) -> tuple[Evidence, ...]:
    """The actions that exceed most what would be usual without the slowdown."""
    cells = np.unique(work.cells.of[mine])
    expected = np.zeros(len(cells))
    like = work.cells.like[cells]
    for kind in np.unique(like):
        own = like == kind
        expected[own] = np.median(work.cells.ns[cells[own]]) / (1 + slowdown)
    return evidence_of(work, cells, expected)
