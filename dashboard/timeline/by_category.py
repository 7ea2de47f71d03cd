"""Where a rank's time goes at any moment, so that any stretch of it is two look-ups.

All of the rank's time is divided among the categories once (analysis/time_spent/claims.py). What
is kept are the moments at which the category changes, and at every `BLOCK`th what has added up
until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dashboard.analysis.intervals import clip
from dashboard.analysis.time_spent.claims import (
    CATEGORIES,
    CLAIMED_BY,
    IDLE,
    Claims,
    Device,
    claims_among,
    device_in,
    joined,
)
from dashboard.runs.columns import numbers
from dashboard.runs.words import have
from dashboard.timeline.array_file import Scratch, Store
from tracer.arrays import bool_array

Ints = NDArray[np.int64]

BLOCK: Final = 1 << 9
"""Changes between two sums, of which half are added up at each edge of a stretch, in some 5 µs."""
CHANGE: Final = np.dtype([("at", np.int64), ("category", np.uint8)])
"""From `at` (ns) on the time is of the category, a place in `CATEGORIES`."""
Changes = NDArray[np.void]

_BLOCKS: Final = 1 << 7
"""Whose changes are in memory at once when they are kept."""
_EVER: Final = (-(1 << 62), 1 << 62)
"""ns; no event reaches beyond."""
_IDLE: Final = CATEGORIES.index(IDLE)
_FIRST: Final = np.array(
    [_IDLE if not claims else (claims & -claims).bit_length() - 1 for claims in range(1 << _IDLE)],
    np.uint8,
)
"""Of a set of categories, each a bit, the first."""


@dataclass(kw_only=True, slots=True, frozen=True)
class CategorySums:
    """Of one rank. From `edges[i]` (ns) to the next edge its time is `category[i]`, a place in
    `CATEGORIES`; before the first and after the last edge it is idle. `until[b]` (ns by category)
    is what has added up until `edges[b * BLOCK]`.
    """

    edges: Ints
    category: NDArray[np.uint8]
    until: Ints


class Divided:
    """All of a rank's time among the categories: each moment is of the first of `CATEGORIES` that
    claims it, which is what `divide` gives. Done stretch by stretch; what reaches into the next one
    is remembered.
    """

    def __init__(self, scratch: Scratch, *, is_imported: bool) -> None:
        """scratch: for the changes, records of `CHANGE`."""
        self._scratch = scratch
        self._is_imported = is_imported
        self._devices: list[Device] = []
        self._open: pa.Table | None = None
        self._until = _EVER[0]
        self._last = np.zeros(0, CHANGE)
        self._category = _IDLE

    def look_at(self, events: pa.Table) -> None:
        """All events of the rank are looked at before the first stretch is added."""
        self._devices.append(device_in(events, is_imported=self._is_imported))

    def add(self, events: pa.Table) -> None:
        """The events of the next stretch, which begin later than all before."""
        if not events.num_rows:
            return
        events = events.select(CLAIMED_BY if self._is_imported else CLAIMED_BY[:-1])
        if self._open is not None:
            events = pa.concat_tables([self._open, events])
        end = int(numbers(events["start"])[-1]) + 1
        self._divide(events, end)
        self._open = self._reaching(events, end)

    def keep(self, store: Store, rank: int) -> None:
        """After the last stretch: the arrays of `CategorySums`."""
        if self._open is not None:
            self._divide(self._open, _EVER[1])
        self._settle(self._last)
        count, at_once = len(self._scratch), _BLOCKS * BLOCK
        edges = store.allocate(f"edges_of_{rank}", np.int64, (count,))
        category = store.allocate(f"category_of_{rank}", np.uint8, (count,))
        sums = [np.zeros((1, len(CATEGORIES)), np.int64)]
        for low in range(0, count, at_once):
            changes = self._scratch[low : low + at_once + 1]
            edges[low : low + at_once] = changes["at"][:at_once]
            category[low : low + at_once] = changes["category"][:at_once]
            sums.append(_by_block(changes))
        blocks = max(count - 1, 0) // BLOCK + 1
        store.keep(f"until_of_{rank}", np.cumsum(np.concatenate(sums), axis=0)[:blocks])

    def _divide(self, events: pa.Table, end: int) -> None:
        """The time from where the last stretch ended."""
        of_rank = self._devices[0] = joined(self._devices)
        del self._devices[1:]
        claims = claims_among(events, of_rank, is_imported=self._is_imported)
        changes = np.concatenate([self._last, _changes(claims, self._until, end)])
        times = changes["at"]
        changes = changes[np.flatnonzero(np.diff(times, append=times[-1:] + 1))]
        # at the time of the last one the next stretch may say otherwise
        self._settle(changes[:-1])
        self._last, self._until = changes[-1:], end

    def _settle(self, changes: Changes) -> None:
        if len(changes):
            before = np.uint8(self._category)
            self._scratch.add(changes[np.flatnonzero(np.diff(changes["category"], prepend=before))])
            self._category = int(changes["category"][-1])

    def _reaching(self, events: pa.Table, end: int) -> pa.Table:
        """Those of the events that last beyond that time, and what decides about them."""
        start = numbers(events["start"])
        ends = start + numbers(events["duration"])
        beyond = ends > end
        if self._is_imported and beyond.any():
            kernels = start[beyond & _have(events, "kernel")]
            if len(kernels):
                beyond |= _have(events, "optimizer") & (ends > kernels.min())
        return events.filter(bool_array(beyond)).combine_chunks()


def _have(events: pa.Table, kind: str) -> NDArray[np.bool_]:
    return numbers(have(events["kind"], (kind,))).astype(np.bool_)


def _changes(claims: Claims, begin: int, end: int) -> Changes:
    """What each moment from `begin` to `end` is of: times and categories from then on, found in
    one pass over all starts and ends; several may have the same time, of which the last counts.
    """
    claimed = [clip(claims.spans[name], begin, end) for name in CATEGORIES[:_IDLE]]
    times = np.concatenate([times for of in claimed for times in (of[:, 0], of[:, 1])])
    signs = [
        np.full(len(of), sign << bit, np.int16)
        for bit, of in enumerate(claimed)
        for sign in (1, -1)
    ]
    order = np.argsort(times, kind="stable")
    found = np.empty(len(times), CHANGE)
    found["at"] = times[order]
    found["category"] = _FIRST[np.cumsum(np.concatenate(signs)[order])]
    return found


def spent(sums: CategorySums, begin: int, end: int) -> Ints:
    """What of [begin, end) each of `CATEGORIES` takes, ns; together `end - begin`."""
    found = _until(sums, end) - _until(sums, begin)
    found[_IDLE] += end - begin - int(found.sum())
    return found


def _by_block(changes: Changes) -> Ints:
    """The time between one change and the next, by block of changes and category."""
    lengths = np.diff(changes["at"])
    found = np.zeros((-(-len(lengths) // BLOCK), len(CATEGORIES)), np.int64)
    block = np.arange(len(lengths)) // BLOCK
    np.add.at(found.ravel(), block * len(CATEGORIES) + changes["category"][:-1], lengths)
    return found


def _until(sums: CategorySums, time: int) -> Ints:
    """What has added up until then since the first edge."""
    last = int(np.searchsorted(sums.edges, time, side="right")) - 1
    if last < 0:
        return np.zeros(len(CATEGORIES), np.int64)
    block = last // BLOCK
    since = slice(block * BLOCK, last + 1)
    found: Ints = sums.until[block].copy()
    np.add.at(found, sums.category[since], np.diff(sums.edges[since], append=time))
    return found
