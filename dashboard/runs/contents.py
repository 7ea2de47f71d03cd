"""What each record batch of a rank's stream holds, in a few numbers: which ones a question needs.

A stream is read from its beginning, but batches that are not asked for need not be unpacked. One
look at a few columns of all of them tells which those are; a batch is some ten thousand events, so
that what is kept of a long rank is small.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.clock_map import ClockMap
from dashboard.runs.columns import numbers
from dashboard.runs.words import have, where
from tracer.schema import OPERATION_KINDS, WORK_KINDS

Ints = npt.NDArray[np.int64]

SURVEYED: Final = ("start", "duration", "kind", "name", "lane", "step", "correlation")
"""The columns that are looked at; `name` of imported runs only."""
_ROWS: Final = 150_000
"""So many are unpacked at a time: each time, the messages of all batches are gone through."""
_LOWEST, _HIGHEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(kw_only=True, slots=True, frozen=True)
class Contents:
    """Of each record batch, by its number: its `rows`, the `first` start and the `last` end (raw
    ns), the lowest and the highest step, and the same of the correlations of operations. Where it
    has none of these, the lowest is above the highest.

    deciding: the batches with the first work of the rank on a device and, of an imported run, with
    the first kernel of each name there.
    """

    rows: Ints
    first: Ints
    last: Ints
    steps: tuple[Ints, Ints]
    correlations: tuple[Ints, Ints]
    deciding: frozenset[int]

    def with_steps(self, steps: Collection[int]) -> list[int]:
        """Where there may be events of these steps."""
        return _with_one_of(np.array(sorted(steps), np.int64), *self.steps)

    def within(self, clock: ClockMap, begin: int, end: int) -> list[int]:
        """Where there may be events that reach into [begin, end] on the common clock."""
        starts, ends = clock.to_common(self.first), clock.to_common(self.last)
        reaching = (starts <= end) & (ends >= begin) & (self.first <= self.last)
        found: list[int] = np.flatnonzero(reaching).tolist()
        return found

    def some_at_a_time(self, batches: Collection[int]) -> list[list[int]]:
        """These batches in their order, in pieces of some 150,000 rows or one batch."""
        chosen = np.array(sorted(batches), np.int64)
        before = np.cumsum(self.rows[chosen]) - self.rows[chosen]
        begins = np.flatnonzero(np.diff(before // _ROWS, prepend=-1))
        return [piece.tolist() for piece in np.split(chosen, begins[1:]) if len(piece)]

    def with_correlations(self, correlations: Ints) -> list[int]:
        """Where there may be a part of these operations."""
        return _with_one_of(np.sort(correlations), *self.correlations)


class Survey:
    """Makes `Contents` of the batches of a rank, in the order of its file."""

    def __init__(self, *, is_imported: bool) -> None:
        self._is_imported = is_imported
        self._found: list[tuple[int, ...]] = []
        self._first_work: tuple[int, int] | None = None
        self._first_kernels: dict[str, tuple[int, int]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that `note` looks at."""
        return tuple(name for name in SURVEYED if self._is_imported or name != "name")

    def note(self, rows: pa.Table) -> pa.Table:
        """More batches, each a chunk of every column; nothing of them is kept."""
        start, step = numbers(rows["start"]), numbers(rows["step"], null=-1).astype(np.int64)
        end = start + numbers(rows["duration"])
        issued = numbers(have(rows["kind"], OPERATION_KINDS))
        correlation = np.where(issued, numbers(rows["correlation"], null=-1), -1)
        low = 0
        for chunk in rows["start"].chunks:
            part = slice(low, low + len(chunk))
            low += len(chunk)
            self._found.append(
                (
                    len(chunk),
                    int(start[part].min(initial=_HIGHEST)),
                    int(end[part].max(initial=_LOWEST)),
                    *_range(step[part]),
                    *_range(correlation[part]),
                )
            )
        self._note_device(rows, start)
        return pa.Table.from_batches([], schema=rows.schema)  # a slice would hold the memory

    def contents(self) -> Contents:
        """What was found."""
        columns = np.array(self._found, np.int64).reshape(-1, 7).T
        deciding = [*self._first_kernels.values()]
        if self._first_work is not None:
            deciding.append(self._first_work)
        return Contents(
            rows=columns[0],
            first=columns[1],
            last=columns[2],
            steps=(columns[3], columns[4]),
            correlations=(columns[5], columns[6]),
            deciding=frozenset(batch for _, batch in deciding),
        )

    def _note_device(self, rows: pa.Table, start: Ints) -> None:
        on_device = numbers(where(rows["lane"], lambda lanes: pc.starts_with(lanes, "device:")))
        if not on_device.any():
            return
        lengths = [len(chunk) for chunk in rows["start"].chunks]
        ends = np.cumsum(lengths)
        before = len(self._found) - len(lengths)

        def at(row: int) -> tuple[int, int]:
            batch = int(np.searchsorted(ends, row, side="right"))
            return int(start[row]), before + batch

        works = np.flatnonzero(on_device & numbers(have(rows["kind"], WORK_KINDS)))
        if len(works):
            found = at(int(works[start[works].argmin()]))
            if self._first_work is None or found[0] < self._first_work[0]:
                self._first_work = found
        if self._is_imported:
            kernels = np.flatnonzero(on_device & numbers(have(rows["kind"], ("kernel",))))
            names = rows["name"].cast(pa.string()).take(pa.array(kernels)).to_pylist()
            for row, name in zip(kernels.tolist(), names, strict=True):
                known = self._first_kernels.get(name)
                if known is None or start[row] < known[0]:
                    self._first_kernels[name] = at(row)


def _range(values: Ints) -> tuple[int, int]:
    """The least and the greatest of those that are not negative."""
    known = values[values >= 0]
    return int(known.min(initial=_HIGHEST)), int(known.max(initial=-1))


def _with_one_of(wanted: Ints, low: Ints, high: Ints) -> list[int]:
    """The places where one of the `wanted` numbers, in order, lies in low … high."""
    first = np.searchsorted(wanted, low, side="left")
    end = np.searchsorted(wanted, high, side="right")
    found: list[int] = np.flatnonzero(first < end).tolist()
    return found
