"""The numbers of a run that grows: those of its last step, and sums over all steps so far.

Works on the reader's side, on what the ranks have written: the training knows nothing of it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Final

import pyarrow.compute as pc

from dashboard.analysis.whole_run.step_metrics import LABELS, step_metrics
from dashboard.runs import Recording
from dashboard.runs.follow import ENDED, LIVE, QUIET, WAITING, Status

Labels = tuple[tuple[str, str], ...]
"""(name, value) of each label that a number has."""

STATES: Final = (WAITING, LIVE, QUIET, ENDED)
STEP_TIME: Final = "step_time_seconds"
ADDITIVE: Final = ("time_seconds", "communication_seconds", "exposed_communication_seconds")
"""Metrics whose sums over steps mean something: the rate of the sum is the mean over any time."""
_DROPPED: Final = "recorder.dropped"
BUCKETS_S: Final = tuple(
    round(decade * part, 3)
    for decade in (0.01, 0.1, 1.0, 10.0, 100.0)
    for part in (1.0, 2.0, 3.0, 5.0, 7.0)
)
"""Of the histogram of step times; a step takes from some ms on one host to minutes on thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What is known at one instant.

    last: of the last complete step, metric → labels → value. sums: of `ADDITIVE`, over all steps.
    buckets: steps by time, one more than `BUCKETS_S`. dropped, unseen: by rank.
    counters: the last value of each counter of each rank.
    """

    name: str
    run_id: str = ""
    world_size: int = 0
    schedule: str = ""
    mesh: str = ""
    ranks: int = 0
    step: int | None = None
    steps: int = 0
    last: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    sums: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    buckets: tuple[int, ...] = (0,) * (len(BUCKETS_S) + 1)
    step_seconds: float = 0.0
    dropped: Mapping[int, int] = field(default_factory=dict)
    unseen: Mapping[int, int] = field(default_factory=dict)
    counters: Mapping[Labels, float] = field(default_factory=dict)
    grew: float | None = None
    """When the last step was seen, by the clock that `Keeper` was given."""


class Keeper:
    """Keeps the numbers of one run, from one opening of it to the next."""

    def __init__(
        self,
        name: str,
        status: Callable[[], Status] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """status: of the follower, where the run is being recorded."""
        self._status = status
        self._clock = clock
        self._lock = Lock()
        self._numbers = Numbers(name=name)

    @property
    def numbers(self) -> Numbers:
        """As they are now; what was given stays as it is."""
        with self._lock:
            return self._numbers

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return ENDED if self._status is None else self._status().state

    @property
    def age_s(self) -> float | None:
        """How long ago the last step was seen; None where none is to come."""
        grew = self.numbers.grew
        return None if grew is None or self.state == ENDED else self._clock() - grew

    def update(self, run: Recording) -> None:
        """Take up the steps that are new; from the beginning if it is another attempt."""
        known = self.numbers
        if known.run_id != run.meta.run_id:
            known = Numbers(name=known.name, grew=known.grew)
        fresh = [step for step in run.steps if known.step is None or step > known.step]
        rows = step_metrics(run, fresh).table.to_pylist() if fresh else []
        known = _with_steps(known, rows, fresh)
        meta, counters = run.meta, _last_values(run)
        known = replace(
            known,
            run_id=meta.run_id,
            world_size=meta.world_size,
            schedule=meta.schedule.name if meta.schedule else "",
            mesh=" ".join(map(_side, meta.mesh.names, meta.mesh.shape)) if meta.mesh else "",
            ranks=len(run.ranks),
            counters=counters,
            dropped={rank: _dropped(run, rank, counters) for rank in run.ranks},
            unseen={rank: run.facts[rank].unseen for rank in run.ranks},
            grew=self._clock() if fresh or known.grew is None else known.grew,
        )
        with self._lock:
            self._numbers = known


def by_rank(value: int | Mapping[int, int]) -> dict[Labels, float]:
    """A count, or one for each rank, by labels."""
    if isinstance(value, int):
        return {(): float(value)}
    return {(("rank", str(rank)),): float(count) for rank, count in value.items()}


def _with_steps(known: Numbers, rows: list[dict[str, Any]], fresh: list[int]) -> Numbers:
    if not fresh:
        return known
    last: dict[str, dict[Labels, float]] = {}
    sums = {metric: dict(found) for metric, found in known.sums.items()}
    buckets, seconds = list(known.buckets), known.step_seconds
    for row in rows:
        metric, value = row["metric"], row["value"]
        labels = tuple((name, row[name]) for name in LABELS if row[name] is not None)
        if row["step"] == fresh[-1]:
            last.setdefault(metric, {})[labels] = value
        if metric in ADDITIVE:
            mine = sums.setdefault(metric, {})
            mine[labels] = mine.get(labels, 0.0) + value
        if metric == STEP_TIME:
            buckets[bisect_left(BUCKETS_S, value)] += 1
            seconds += value
    return replace(
        known,
        step=fresh[-1],
        steps=known.steps + len(fresh),
        last=last,
        sums=sums,
        buckets=tuple(buckets),
        step_seconds=seconds,
    )


def _last_values(run: Recording) -> dict[Labels, float]:
    table = run.counters
    last = table.take(pc.sort_indices(table, [("ts", "ascending")]))
    last = last.group_by(["rank", "name"], use_threads=False).aggregate([("value", "last")])
    return {
        (("name", row["name"]), ("rank", str(row["rank"]))): row["value_last"]
        for row in last.to_pylist()
    }


def _dropped(run: Recording, rank: int, counters: Mapping[Labels, float]) -> int:
    """What the rank said at its end or, while it records, with its last flush."""
    flushed = counters.get((("name", _DROPPED), ("rank", str(rank))), 0.0)
    return max(run.facts[rank].dropped, int(flushed))


def _side(name: str, length: int) -> str:
    return f"{name}={length}"
