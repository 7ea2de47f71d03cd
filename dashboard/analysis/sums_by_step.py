"""Whole numbers by key and step, which add up over ranks and parts of a run in any grouping."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dashboard.analysis.rows_by_key import Ints
from dashboard.runs.columns import distinct

Key: TypeAlias = tuple[Any, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class SumsByStep:
    """steps: ascending; keys: what is summed, each once, in the order of their text, so that equal
    sums are equal however they were found; values: shape (keys, steps), no row of which is all 0.
    Of one step, over all ranks, a value has room for 9.2e18: 9.2 EB, or the ns of 10,000 ranks in
    a step of ten days. Sums over steps may need more.
    """

    steps: Ints
    keys: tuple[Key, ...]
    values: Ints

    def within(self, steps: Sequence[int]) -> Ints:
        """The values in these steps, in their order, 0 in others than its own; shape (keys,
        steps).
        """
        wanted = np.array(steps, np.int64)
        place = np.searchsorted(self.steps, wanted)
        known = np.append(self.steps, -1)[place] == wanted
        found = np.zeros((len(self.keys), len(wanted)), np.int64)
        found[:, known] = self.values[:, place[known]]
        return found


def sums_by_step(
    steps: Collection[int], keys: Sequence[Key], of: Ints, step: Ints, values: Ints
) -> SumsByStep:
    """Of rows that each have the number of one of `keys` (which may be equal), one of `steps`, and
    a value.

    keys `a`, `b`; rows `a` 4 ns, `b` 1 ns, `a` 2 ns of step 7 → `a` 6, `b` 1
    """
    place = _places(keys)
    known = np.array(sorted(steps), np.int64)
    found = np.zeros(len(place) * len(known), np.int64)
    row = np.array([place[key] for key in keys], np.int64)[of]
    np.add.at(found, row * len(known) + np.searchsorted(known, step), values)
    values = found.reshape(len(place), len(known))
    told = np.flatnonzero(np.count_nonzero(values, axis=1)).tolist()
    names = list(place)
    return SumsByStep(steps=known, keys=tuple(names[n] for n in told), values=values[told])


def added(parts: Sequence[SumsByStep]) -> SumsByStep:
    """Of several parts: all their keys and steps."""
    place = _places([key for part in parts for key in part.keys])
    steps = distinct(np.concatenate([np.zeros(0, np.int64), *(part.steps for part in parts)]))
    values = np.zeros((len(place), len(steps)), np.int64)
    for part in parts:
        rows = np.array([place[key] for key in part.keys], np.int64)
        values[np.ix_(rows, np.searchsorted(steps, part.steps))] += part.values
    return SumsByStep(steps=steps, keys=tuple(place), values=values)


def _places(keys: Sequence[Key]) -> dict[Key, int]:
    return {key: place for place, key in enumerate(sorted(set(keys), key=str))}
