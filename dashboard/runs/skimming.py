"""What is kept of a rank's events when a large run is opened: as much as aligning clocks takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from dashboard.runs.columns import numbers
from dashboard.runs.meetings import MOST_ROWS
from dashboard.runs.words import have
from tracer.arrays import number_array

_EVENT_BYTES: Final = 8
"""Of an event on disk, at least; and four events are one operation of a rank or less."""
_EVENTS_PER_OPERATION: Final = 4
_COLUMNS: Final = ("start", "duration", "kind", "name", "lane", "group", "seq", "peer")


def operations_looked_at(files: Iterable[Path]) -> int:
    """Every so-manieth operation is kept, so that of all ranks together no more than `MOST_ROWS`
    are; which is as many as the alignment looks at in any run.
    """
    size = sum(path.stat().st_size for path in files)
    return max(-(-size // (_EVENT_BYTES * _EVENTS_PER_OPERATION * MOST_ROWS)), 1)


def for_clocks(table: pa.Table, every: int) -> pa.Table:
    """Of a rank's events the operations whose number is a multiple of `every`, and the events that
    begin first and end last.

    Before                                              After, every = 2
    step 0-9, all_reduce #0, all_reduce #1, wait #1     step 0-9, all_reduce #0
    """
    if not table.num_rows:
        return table.select(_COLUMNS)
    start = numbers(table["start"])
    ends = sorted({int(start.argmin()), int((start + numbers(table["duration"])).argmax())})
    number = numbers(table["seq"], null=-1)
    kept = (number >= 0) & (number % every == 0)
    kept &= numbers(have(table["kind"], ("collective", "send", "recv", "wait")))
    kept[ends] = True
    return table.select(_COLUMNS).take(number_array(np.flatnonzero(kept))).combine_chunks()
