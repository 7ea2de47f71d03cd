"""When the ranks of a pipeline do none of its actions, of all ranks and steps at once.

A window lasts from the first start to the last end of a step's actions. Before its first action of
a window a rank warms up, after its last one it cools down; in between are its stalls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dashboard.analysis.rows_by_key import Ints


@dataclass(kw_only=True, frozen=True)
class Gaps:
    """steps: their numbers; begin, end: of their windows, ns.

    first, last: of each step and rank (steps × ranks), when it begins its first action and ends its
    last one, ns; both are the window's end where it does nothing.
    stall_begin, stall_end: of each stall, ns; stall_step, stall_place: its row and column.
    """

    steps: Ints
    begin: Ints
    end: Ints
    first: Ints
    last: Ints
    stall_begin: Ints
    stall_end: Ints
    stall_step: Ints
    stall_place: Ints

    @property
    def stalls(self) -> Ints:
        """Of each step and rank, all stalls together, ns."""
        found = np.zeros(self.first.shape, np.int64)
        np.add.at(found, (self.stall_step, self.stall_place), self.stall_end - self.stall_begin)
        return found


def gaps_of(actions: pa.Table, ranks: Sequence[int]) -> Gaps:
    """actions: the `action_table` of `ranks`, which are one pipeline.

    Rank 0 works 0-10 and 15-20, rank 1 10-18 → of rank 0 a stall 10-15; rank 1 warms up 0-10 and
    cools down 18-20
    """
    place = _places(actions["rank"].to_numpy(), ranks)
    start = actions["start"].to_numpy()
    length = actions["duration"].to_numpy()
    steps, step = np.unique(actions["step"].to_numpy(), return_inverse=True)
    begin = np.full(len(steps), np.iinfo(np.int64).max)
    np.minimum.at(begin, step, start)
    end = np.full(len(steps), np.iinfo(np.int64).min)
    np.maximum.at(end, step, start + length)
    cell = step * len(ranks) + place
    order = np.lexsort((start, cell))
    order = order[length[order] > 0]
    cell, start = cell[order], start[order]
    reach = _reached(cell, start + length[order])
    opens = np.flatnonzero(np.diff(cell, prepend=-1))
    closes = np.append(opens[1:], len(cell))[: len(opens)] - 1
    first, last = np.repeat(end, len(ranks)), np.repeat(end, len(ranks))
    first[cell[opens]], last[cell[opens]] = start[opens], reach[closes]
    stalls = np.flatnonzero((cell[1:] == cell[:-1]) & (start[1:] > reach[:-1]))
    return Gaps(
        steps=steps,
        begin=begin,
        end=end,
        first=first.reshape(-1, len(ranks)),
        last=last.reshape(-1, len(ranks)),
        stall_begin=reach[stalls],
        stall_end=start[stalls + 1],
        stall_step=cell[stalls] // len(ranks),
        stall_place=cell[stalls] % len(ranks),
    )


def _places(rank: Ints, ranks: Sequence[int]) -> Ints:
    """Where each stands in `ranks`."""
    order = np.argsort(ranks)
    found: Ints = order[np.searchsorted(np.asarray(ranks)[order], rank)]
    return found


def _reached(cell: Ints, end: Ints) -> Ints:
    """The latest end so far in the same cell; actions of one rank seldom overlap."""
    late = np.flatnonzero((cell[1:] == cell[:-1]) & (end[1:] < end[:-1]))
    reach = end.copy()
    for one in np.unique(cell[late]).tolist():
        mine = slice(*np.searchsorted(cell, (one, one + 1)))
        reach[mine] = np.maximum.accumulate(end[mine])
    return reach
