"""What opening a large run found, kept so that the next opening need not read its events.

Everything that `Recording` knows besides the events: ranks, problems, clocks, steps. The events of
a rank are then read when they are asked for. docs/dashboard.md says where it is kept.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from dashboard.runs.alignment import ClockAlignment
from dashboard.runs.caches import Fingerprint, places, replacing, writable_place
from dashboard.runs.clock_map import ClockMap
from dashboard.runs.problems import Problem

if TYPE_CHECKING:
    from dashboard.runs.recording import Recording

VERSION: Final = 1
"""To be raised with every change of what is kept, or of what opening a run finds."""
FILE: Final = "opened.json"
MANY_EVENTS: Final = 200_000
"""From so many on it is worth a file, as an index of the timeline is."""


KEPT_BYTES: Final = 1_000_000_000
"""Of events in memory: some eight million. Of longer runs each analysis reads its ranks anew, one
after the other, so that memory does not grow with the run."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Opened:
    """All of a `Recording` that does not follow from its small files."""

    run_id: str
    ranks: tuple[int, ...]
    event_count: int
    problems: tuple[Problem, ...]
    clock: ClockAlignment
    begin: int
    steps: tuple[int, ...]
    recorded_until: Mapping[int, int]


class LazyTables(Mapping[int, pa.Table]):
    """Events by rank; those of a rank are read when they are asked for. What was asked for last is
    kept, as much as `kept_bytes` hold, which may be changed.
    """

    def __init__(
        self,
        ranks: tuple[int, ...],
        read: Callable[[int], pa.Table],
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._ranks = frozenset(ranks)
        self._read = read
        self.kept_bytes = kept_bytes
        self._tables: dict[int, pa.Table] = {}
        self._bytes: dict[int, int] = {}
        self._lock = Lock()

    def __getitem__(self, rank: int) -> pa.Table:
        if rank not in self._ranks:
            raise KeyError(rank)
        with self._lock:
            kept = self._tables.pop(rank, None)
            if kept is not None:
                self._tables[rank] = kept
                return kept
            table = self._tables[rank] = self._read(rank)
            self._bytes[rank] = table.nbytes
            while sum(self._bytes.values()) > self.kept_bytes and len(self._tables) > 1:
                oldest = next(iter(self._tables))
                del self._tables[oldest], self._bytes[oldest]
            return table

    def holds(self, rank: int) -> bool:
        """Whether the events of the rank are kept just now."""
        with self._lock:
            return rank in self._tables

    def once(self, rank: int) -> pa.Table:
        """The events of a rank for who goes through all ranks: they are not kept."""
        if rank not in self._ranks:
            raise KeyError(rank)
        with self._lock:
            kept = self._tables.get(rank)
        return self._read(rank) if kept is None else kept

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._ranks))

    def __len__(self) -> int:
        return len(self._ranks)


def remember(run: Recording) -> None:
    """Keep what opening the run found, where that can be written."""
    place = writable_place(run.path)
    if place is None:
        return
    said = {"version": VERSION, "files": run.files, **described(run)}
    with contextlib.suppress(OSError), replacing(place / FILE) as part:
        part.write_text(json.dumps(said), encoding="utf-8")


def described(run: Recording | Opened) -> dict[str, Any]:
    """What is kept of a run, as `opened_from` reads it."""
    clocks = list({id(clock): clock for clock in run.clock.maps.values()}.values())
    numbers = {id(clock): number for number, clock in enumerate(clocks)}
    return {
        "run_id": run.run_id if isinstance(run, Opened) else run.meta.run_id,
        "ranks": run.ranks,
        "event_count": run.event_count,
        "problems": [asdict(problem) for problem in run.problems],
        "clocks": [
            {name: getattr(clock, name).tolist() for name in ("times", "offsets", "bounds")}
            for clock in clocks
        ],
        "clock_of": [numbers[id(run.clock.maps[rank])] for rank in run.ranks],
        "alignment": {
            name: getattr(run.clock, name)
            for name in ("method", "bound_ns", "checked", "violations")
        },
        "begin": run.begin,
        "steps": run.steps,
        "recorded_until": list(run.recorded_until.items()),
    }


def recall(run: Path, files: Fingerprint) -> Opened | None:
    """What is known of the run, if its files are still these."""
    for place in places(run):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            said = json.loads((place / FILE).read_text(encoding="utf-8"))
            if said["version"] == VERSION and said["files"] == files:
                return opened_from(said)
    return None


def opened_from(said: dict[str, Any]) -> Opened:
    """What `described` gave.

    Raises:
        KeyError, ValueError, TypeError, IndexError: it is something else.
    """
    clocks = [
        ClockMap(**{name: np.array(values, np.float64) for name, values in clock.items()})
        for clock in said["clocks"]
    ]
    maps = {
        rank: clocks[number] for rank, number in zip(said["ranks"], said["clock_of"], strict=True)
    }
    return Opened(
        run_id=str(said["run_id"]),
        ranks=tuple(said["ranks"]),
        event_count=int(said["event_count"]),
        problems=tuple(Problem(**problem) for problem in said["problems"]),
        clock=ClockAlignment(maps=maps, **said["alignment"]),
        begin=int(said["begin"]),
        steps=tuple(said["steps"]),
        recorded_until={int(rank): int(until) for rank, until in said["recorded_until"]},
    )
