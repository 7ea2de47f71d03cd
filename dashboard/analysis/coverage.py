"""Which times the files of a run tell about: all of it, or what a black box wrote."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from tracer.black_box import MARK
from tracer.run_files import RankFacts

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Why the black box of a rank was written, and when (ns, as `start` of events)."""

    rank: int
    time: int
    reason: str


def incidents(run: Recording) -> list[Incident]:
    """All of them, in order of time; empty unless the run is a black box."""
    boxes = [rank for rank in run.ranks if _may_be_a_box(run.facts[rank])]
    if not boxes:
        return []
    markers = run.events(ranks=boxes, kinds=("marker",), columns=("start", "name"))
    names = markers["name"].cast("string")
    mine = markers.filter(pc.starts_with(names, MARK)).sort_by("start")
    return [
        Incident(rank=row["rank"], time=row["start"], reason=row["name"].removeprefix(MARK))
        for row in mine.to_pylist()
    ]


def _may_be_a_box(facts: RankFacts) -> bool:
    """Whether the rank says so, or says nothing at all (it has a pid if it does)."""
    return facts.keep_last > 0 or not facts.pid


class Coverage:
    """Answers whether a rank's file would hold something, had it happened."""

    def __init__(self, run: Recording) -> None:
        self._run = run
        self._windows: dict[int, list[tuple[int, int]]] = {}
        boxes = [rank for rank, facts in run.facts.items() if facts.keep_last]
        if boxes:
            written: dict[int, list[int]] = defaultdict(list)
            for incident in incidents(run):
                written[incident.rank].append(incident.time)
            for rank in boxes:
                self._windows[rank] = _windows(run, rank, written[rank])

    def would_hold(self, rank: int, time: int) -> bool:
        """Whether the file would hold what the rank had done at that time (ns, as `start`)."""
        run = self._run
        facts = run.facts.get(rank)
        if rank not in run.ranks or (facts is not None and facts.dropped):
            return False
        if rank in self._windows:
            return any(begin <= time < end for begin, end in self._windows[rank])
        return time < run.recorded_until.get(rank, math.inf)


def _windows(run: Recording, rank: int, written: list[int]) -> list[tuple[int, int]]:
    """From the first event after an incident to the next incident, which wrote it."""
    starts = run.events(ranks=(rank,), columns=("start",))["start"].to_numpy()
    found = []
    for before, until in pairwise([-1, *written]):
        first = int(np.searchsorted(starts, before, side="right"))
        if first < len(starts) and starts[first] < until:
            found.append((int(starts[first]), until))
    return found
