"""Columns that grow while a Kineto file is read: of spans, of calls, of what carried them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from collectors.importers.kineto_columns import NONE, Ints
from tracer.arrays import number_array, numpy_numbers

_CLOSE: Final = 512
"""Numbers that lie so close together are counted from the least one, which is faster than to look
each of thousands up."""


class Grown:
    """A column of whole numbers that grows by parts. Each part is counted from its least number and
    kept as narrow as that allows, in two fifths of the memory; where the column is asked for, it
    is one array.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[tuple[np.int64, npt.NDArray[np.unsignedinteger[Any]]]] = []

    def add(self, values: Ints) -> None:
        """More values, at least one."""
        least = values.min()
        above = (values - least).view(np.uint64)  # right also where the difference has 64 bits
        self._parts.append((least, above.astype(np.min_scalar_type(above.max()))))

    def __len__(self) -> int:
        return sum(len(above) for _, above in self._parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        found = np.empty(len(self), np.int64)
        end = 0
        for least, above in self._parts:
            part = found[end : end + len(above)]
            part[:] = above
            part += least
            end += len(above)
        return found if dtype is None else found.astype(dtype, copy=False)

    def tolist(self) -> list[int]:
        """The values."""
        found: list[int] = np.asarray(self).tolist()
        return found


class _Columns:
    """Columns of equal length that grow."""

    __slots__: tuple[str, ...] = ()

    def add(self, *columns: Ints) -> None:
        """More rows."""
        if len(columns[0]):
            for name, values in zip(self.__slots__, columns, strict=True):
                getattr(self, name).add(values)

    def __len__(self) -> int:
        return len(getattr(self, self.__slots__[0]))


@dataclass(slots=True)
class Spans(_Columns):
    """Columns of equal length: start and duration in ns, number of the name and of the lane."""

    start: Grown = field(default_factory=Grown)
    duration: Grown = field(default_factory=Grown)
    name: Grown = field(default_factory=Grown)
    lane: Grown = field(default_factory=Grown)
    key: Grown = field(default_factory=Grown)
    """Correlation of device events and launches, external id of operators; -1 where none."""


class Words:
    """Words by number, in the order of their first use."""

    def __init__(self) -> None:
        self.words: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def numbers(self, words: Sequence[Any], places: Ints) -> Ints:
        """The numbers of the words at these places; new ones are numbered in the order of their
        use.

        `["b", "a", "c"]` at 1, 0, 1 → 0 1 0, of `["a", "b"]`
        """
        known = np.array([self._numbers.get(word, NONE) for word in words], np.int64)
        found = known.take(places)
        new = np.flatnonzero(found == NONE)
        if len(new):
            used, first = np.unique(places[new], return_index=True)
            for place in used[np.argsort(first)].tolist():
                known[place] = self._number(words[place])
            found = known.take(places)
        return found

    def _number(self, word: Any) -> int:
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = len(self.words)
            self.words.append(word)
        return found


def coded(values: Ints) -> tuple[Ints, Ints]:
    """Numbers that each stand once, all of `values` among them, and the place of each value there.

    `7 9 7` → `7 8 9`, `0 2 0`
    """
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, -1)
    if most - least < _CLOSE:
        return np.arange(least, most + 1), values - least
    encoded = number_array(values).dictionary_encode()
    return numpy_numbers(encoded.dictionary), numpy_numbers(encoded.indices)


@dataclass(slots=True)
class Calls(_Columns):
    """Of what process groups were asked for: start and duration in ns, number of the thread,
    external id and torch's number of the operation (-1 where none), and what it is.
    """

    start: Grown = field(default_factory=Grown)
    duration: Grown = field(default_factory=Grown)
    thread: Grown = field(default_factory=Grown)
    external: Grown = field(default_factory=Grown)
    seq: Grown = field(default_factory=Grown)
    said: Grown = field(default_factory=Grown)


@dataclass(slots=True)
class Carried(_Columns):
    """Device work that carries out collectives: row of `KinetoEvents.kernels`, and the rest as in
    `Calls`: Kineto repeats there what the collective is. Where a call says it, `said` may be -1.
    """

    row: Grown = field(default_factory=Grown)
    external: Grown = field(default_factory=Grown)
    seq: Grown = field(default_factory=Grown)
    said: Grown = field(default_factory=Grown)
