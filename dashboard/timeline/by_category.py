"""Where a rank's time goes at any moment, so that any stretch of it is two look-ups.

All of the rank's time is divided among the categories once (analysis/time_spent/claims.py). What
is kept are the moments at which the category changes, and at every `BLOCK`th what has added up
until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dashboard.analysis.time_spent.claims import CATEGORIES, IDLE, Claims

Ints = NDArray[np.int64]

BLOCK: Final = 1 << 9
"""Changes between two sums, of which half are added up at each edge of a stretch, in some 5 µs."""
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


def category_sums(claims: Claims) -> CategorySums:
    """Of all of the rank's time: each moment is of the first of `CATEGORIES` that claims it, which
    is what `divide` gives, found in one pass over all changes.
    """
    claimed = [claims.spans[name] for name in CATEGORIES[:_IDLE]]
    times = np.concatenate([times for of in claimed for times in (of[:, 0], of[:, 1])])
    signs = [
        np.full(len(of), sign << bit, np.int16)
        for bit, of in enumerate(claimed)
        for sign in (1, -1)
    ]
    order = np.argsort(times, kind="stable")
    times, claiming = times[order], np.cumsum(np.concatenate(signs)[order])
    settled = np.flatnonzero(np.diff(times, append=times[-1:] + 1))  # the last at each time
    first = _FIRST[claiming[settled]]
    changed = np.flatnonzero(np.diff(first, prepend=np.uint8(_IDLE)))
    edges, category = times[settled[changed]], first[changed]
    return CategorySums(edges=edges, category=category, until=_sums_until(edges, category))


def spent(sums: CategorySums, begin: int, end: int) -> Ints:
    """What of [begin, end) each of `CATEGORIES` takes, ns; together `end - begin`."""
    found = _until(sums, end) - _until(sums, begin)
    found[_IDLE] += end - begin - int(found.sum())
    return found


def _sums_until(edges: Ints, category: NDArray[np.uint8]) -> Ints:
    blocks = max(len(edges) - 1, 0) // BLOCK + 1
    sums = np.zeros((blocks + 1, len(CATEGORIES)), np.int64)
    next_block = np.arange(max(len(edges) - 1, 0)) // BLOCK + 1
    np.add.at(sums.ravel(), next_block * len(CATEGORIES) + category[:-1], np.diff(edges))
    return np.cumsum(sums[:blocks], axis=0)


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
