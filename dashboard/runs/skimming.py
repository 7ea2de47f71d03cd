"""What is kept of a rank's events when a large run is opened: as much as aligning clocks takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from dashboard.runs.columns import numbers
from dashboard.runs.meetings import MOST_ROWS
from dashboard.runs.recording import steps_of
from dashboard.runs.words import have
from tracer.arrays import number_array
from tracer.rows import possible_rows

_EVENT_BYTES: Final = 8
"""Of an event on disk, at least; and four events are one operation of a rank or less."""
_EVENTS_PER_OPERATION: Final = 4
_MOST_KEPT: Final = 1 << 18
"""Operations of all ranks that are kept while a run is written: 12 MB."""
_COLUMNS: Final = ("start", "duration", "kind", "name", "lane", "group", "seq", "peer")


def operations_looked_at(files: Iterable[Path]) -> int:
    """Every so-manieth operation is kept, so that of all ranks together no more than `MOST_ROWS`
    are; which is as many as the alignment looks at in any run.
    """
    size = sum(path.stat().st_size for path in files)
    return max(-(-size // (_EVENT_BYTES * _EVENTS_PER_OPERATION * MOST_ROWS)), 1)


class Skim:
    """What opening a run asks of all its events, noted part by part.

    Attributes:
        rows: of each rank.
        begins: the first start of each rank that has events, raw ns.
        complete: the steps of all ranks that are done; None before the first.
    """

    def __init__(self, every: int = 1) -> None:
        self.rows: Counter[int] = Counter()
        self.begins: dict[int, int] = {}
        self.complete: set[int] | None = None
        self._steps: dict[int, set[int]] = {}
        self._every = every

    def note(self, rank: int, part: pa.Table) -> pa.Table:
        """More events of a rank; returns those that aligning clocks takes."""
        self.rows[rank] += part.num_rows
        if part.num_rows:
            begin = int(numbers(part["start"]).min())
            self.begins[rank] = min(self.begins.get(rank, begin), begin)
        self._steps.setdefault(rank, set()).update(steps_of(part))
        return for_clocks(part, self._every)

    def done(self, rank: int) -> None:
        """All of the rank was noted; a rank that cannot be read to its end does not count."""
        steps = self._steps.pop(rank)
        self.complete = steps if self.complete is None else self.complete & steps


class SkimWritten(Skim):
    """The same while the events are written, so that nobody needs to read them for it."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[int, list[pa.Table]] = {}
        self._kept = 0
        self._is_whole = True

    def watch(self, rank: int, events: pa.RecordBatch) -> None:
        """More events of a rank, in the order of its file."""
        if not self._is_whole:
            return
        possible, _ = possible_rows(pa.Table.from_batches([events]))
        part = self.note(rank, possible)
        self._parts.setdefault(rank, []).append(_with_its_words(part))
        self._kept += part.num_rows
        if possible.num_rows < events.num_rows or self._kept > _MOST_KEPT:
            self._is_whole = False
            self._parts.clear()

    def tables(self) -> dict[int, pa.Table]:
        """By rank what `note` returned; empty where reading the files has more to say: of rows that
        cannot be, or because these are too many.
        """
        return {
            rank: pa.concat_tables(parts).unify_dictionaries()
            for rank, parts in self._parts.items()
        }


def _with_its_words(part: pa.Table) -> pa.Table:
    """Without the words of all other rows, where these are more than the rows."""
    for place, field in enumerate(part.schema):
        column = part.column(place)
        if pa.types.is_dictionary(field.type) and any(
            len(chunk.dictionary) > len(chunk) for chunk in column.chunks
        ):
            words = column.cast(pa.string()).dictionary_encode().cast(field.type)
            part = part.set_column(place, field, words)
    return part


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
