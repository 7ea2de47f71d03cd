"""What a rank's events add up to by kind and name, so that a stretch need not be gone through.

The rank's events, row after row as the timeline has them, are cut into blocks. Of each block is
kept what its events of each kind and name add up to. A stretch of events is then the blocks that
lie in it, and the events at its edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.array_file import Store
from dashboard.timeline.segments import ranges

Ints = NDArray[np.int64]

BLOCK: Final = 1 << 10
"""Events. So many at most are looked at one by one at each edge of a row's stretch, which takes
some 10 µs; the sums of a block are small beside its events."""
NO_BYTES: Final = -1
"""The payload of an event that has none, which is not the same as one of no bytes."""

CODE, COUNT, DURATION, LONGEST, PAYLOAD = range(5)
"""Rows of sums: a code for kind and name, how many events, their durations together and the longest
of them (ns), their payloads together (bytes; `NO_BYTES` if none has one)."""


@dataclass(kw_only=True, slots=True, frozen=True)
class NameSums:
    """Of one rank. The sums of block b are `sums[:, block_offsets[b] : block_offsets[b + 1]]`, one
    for each code. The payload of event i is `sizes[size_of[i]]`.
    """

    block_offsets: Ints
    sums: Ints
    sizes: Ints
    size_of: NDArray[np.unsignedinteger]


class Summing:
    """Makes the arrays of `NameSums` of a rank in a store, from its events a few blocks at once."""

    def __init__(self, store: Store, rank: int, sizes: Ints, count: int) -> None:
        """sizes: the payloads, bytes or `NO_BYTES`. count: of events."""
        self._store, self._rank, self._sizes = store, rank, sizes
        self._sums = [np.zeros((5, 0), np.int64)]
        self._offsets = [np.zeros(1, np.int64)]
        self._at = 0
        store.keep(f"sizes_of_{rank}", sizes)
        self._size_of = store.allocate(
            f"size_of_of_{rank}", np.min_scalar_type(len(sizes)), (count,)
        )

    def add(self, code: Ints, duration: Ints, size: NDArray[Any]) -> None:
        """The next events, whole blocks of them but for the last: a code for each kind and name,
        ns, and the place among the sizes.
        """
        sums, ends = _by_block(code, duration, self._sizes[size])
        self._offsets.append(ends + self._offsets[-1][-1])
        self._sums.append(sums)
        self._size_of[self._at : self._at + len(size)] = size
        self._at += len(size)

    def keep(self) -> None:
        """After the last events."""
        self._store.keep(f"block_offsets_of_{self._rank}", np.concatenate(self._offsets))
        self._store.keep(f"sums_of_{self._rank}", np.concatenate(self._sums, axis=1))


def _by_block(code: Ints, duration: Ints, payload: Ints) -> tuple[Ints, Ints]:
    """The sums of each block, one block after the other, and where each ends."""
    block = np.arange(len(code)) // BLOCK
    order = _order(code)
    order = order[_order(block[order])]
    of_block, of_code = block[order], code[order]
    firsts = np.flatnonzero((np.diff(of_block, prepend=-1) != 0) | (np.diff(of_code, prepend=-1)))
    sums = _by_group(of_single(code, duration, payload)[:, order], firsts)
    return sums, np.searchsorted(of_block[firsts], np.arange(1, -(-len(code) // BLOCK) + 1))


def stretches(known: NameSums, first: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The rank's events `first[i] … end[i] - 1` for every i: sums of blocks, and the events that
    are in none of these.
    """
    low, high = -(-first // BLOCK), end // BLOCK
    inside = np.flatnonzero(high > low)
    blocks = ranges(known.block_offsets[low[inside]], known.block_offsets[high[inside]])
    before = np.minimum(low * BLOCK, end)
    after = np.maximum(high * BLOCK, before)
    alone = ranges(np.concatenate([first, after]), np.concatenate([before, end]))
    return known.sums[:, blocks], alone


def of_single(code: Ints, duration: Ints, payload: Ints) -> Ints:
    """The sums of each event alone."""
    return np.stack([code, np.ones_like(code), duration, duration, payload])


def added_up(sums: Ints) -> Ints:
    """One column for each code, in order of code.

    Before                 After
    7    5   7             5    7
    1    1   2             1    3
    20  10  50            10   70
    20  10  30            10   30
    8   -1  -1            -1    8
    """
    ordered = sums[:, _order(sums[CODE])]
    return _by_group(ordered, np.flatnonzero(np.diff(ordered[CODE], prepend=-1)))


def _by_group(sums: Ints, firsts: Ints) -> Ints:
    """Those of each group together; a group reaches from its first to the next one's."""
    found = sums[:, firsts]
    if not len(firsts):
        return found
    for row in (COUNT, DURATION):
        found[row] = np.add.reduceat(sums[row], firsts)
    for row in (LONGEST, PAYLOAD):
        found[row] = np.maximum.reduceat(sums[row], firsts)
    payload = np.add.reduceat(np.maximum(sums[PAYLOAD], 0), firsts)
    found[PAYLOAD] = np.where(found[PAYLOAD] > NO_BYTES, payload, NO_BYTES)
    return found


def _order(codes: Ints) -> NDArray[np.intp]:
    """The stable order of whole numbers from 0, which numpy finds faster if they are small."""
    return np.argsort(codes.astype(np.min_scalar_type(int(codes.max(initial=0)))), kind="stable")
