"""A run as rows to draw: one lane per thread or stream of a rank, nested events in deeper rows.

Within a row no two events overlap, so starts and ends are both sorted there and a window is two
binary searches (window.py). build.py makes the arrays, in memory or in the run's index file
(index.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.timeline.by_category import CategorySums
from dashboard.timeline.by_name import NameSums
from dashboard.timeline.occupancy import Occupancy

Ints = NDArray[np.int64]

FEW_EVENTS: Final = 200_000
"""So many can be gone through for each window; only beyond is occupancy worth its memory."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Lane:
    """One thread or stream of one rank; it takes the rows `first_row … first_row + rows - 1`."""

    rank: int
    lane: str
    stages: tuple[int, ...]
    coordinates: Mapping[str, int]
    first_row: int
    rows: int


@dataclass(kw_only=True, slots=True, frozen=True)
class Sums:
    """What all events and all time of one rank add up to; see by_name.py and by_category.py."""

    names: NameSums
    categories: CategorySums


@dataclass(kw_only=True, slots=True, frozen=True)
class Timeline:
    """All events of a run but the steps, sorted by (row, start).

    `offsets[row] : offsets[row + 1]` are a row's events. `kind` and `name` index `KINDS` and
    `names`; `step`, `stage` and `microbatch` are -1 where an event has none; `source` is the
    event's place in `tables[rank]`, the events as the run has them. Times are ns from the run's
    start. `steps`, of shape (n, 4), are rank, step, start and duration of each step of a rank;
    those of one rank lie together, where `steps_of` says.
    `occupancy` says the same of windows that hold very many events, and `sums` by rank what a
    stretch of time holds; None where there are few.
    """

    lanes: tuple[Lane, ...]
    names: tuple[str, ...]
    steps: Ints
    steps_of: Mapping[int, slice]
    span: tuple[int, int]
    tables: Mapping[int, pa.Table]
    offsets: Ints
    start: Ints
    duration: Ints
    kind: NDArray[np.uint8]
    name: NDArray[np.int32]
    step: NDArray[np.int32]
    stage: NDArray[np.int32]
    microbatch: NDArray[np.int32]
    source: NDArray[np.uint32]
    occupancy: Occupancy | None = None
    sums: Mapping[int, Sums] | None = None

    @property
    def row_count(self) -> int:
        """Rows of all lanes."""
        return len(self.offsets) - 1


COLUMNS: Final = {
    "start": np.int64,
    "duration": np.int64,
    "kind": np.uint8,
    "name": np.int32,
    "step": np.int32,
    "stage": np.int32,
    "microbatch": np.int32,
    "source": np.uint32,
}
"""The arrays of `Timeline` that have a value per event, and their types."""
