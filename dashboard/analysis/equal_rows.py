"""Rows with equal keys as one, for tables of millions of rows of which few are equal.

`Table.group_by` hashes every row and copies every column, which takes five times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dashboard.analysis.rows_by_key import Ints, codes, words_numbered
from dashboard.runs.columns import numbers
from tracer.arrays import number_array

Reduction: TypeAlias = np.ufunc

_REDUCTIONS: Final[Mapping[str, Reduction]] = {
    "sum": np.add,
    "min": np.minimum,
    "max": np.maximum,
}


@dataclass(kw_only=True, slots=True, frozen=True)
class EqualRows:
    """Which rows of `table` have equal keys: `order` has the rows of a key one after the other, as
    they follow each other in the table, and those of the next key begin at the next of `begins`.
    """

    table: pa.Table
    keys: tuple[str, ...]
    order: Ints
    begins: Ints

    @property
    def are_single(self) -> bool:
        """Whether no two rows are equal."""
        return len(self.begins) == len(self.order)

    def by_first(self) -> EqualRows:
        """The keys in the order of their first rows, in place of their own."""
        counts = np.diff(self.begins, append=len(self.order))
        keys = np.argsort(self.order[self.begins], kind="stable")
        counts = counts[keys]
        begins = np.cumsum(counts) - counts
        places = np.repeat(self.begins[keys] - begins, counts) + np.arange(len(self.order))
        return replace(self, order=self.order[places], begins=begins)

    def merged(self, how: Mapping[str, str]) -> pa.Table:
        """The keys, and how the other columns of rows with equal keys become one: `first` (which is
        not null), `sum`, `min` or `max` (of those that are not null).
        """
        columns = {name: self._first(name) for name in self.keys}
        for name, reduction in how.items():
            columns[name] = (
                self._first(name) if reduction == "first" else self._reduced(name, reduction)
            )
        return pa.table(columns)

    def of_last(self, column: str, *, by: str) -> pa.Array:
        """Of each key, `column` of the row whose `by` is the greatest; of several the last one."""
        if self.are_single:
            return self._taken(column, self.order)
        value = numbers(self.table[by])[self.order]
        counts = np.diff(self.begins, append=len(self.order))
        greatest = np.repeat(np.maximum.reduceat(value, self.begins), counts)
        places = np.where(value == greatest, np.arange(len(value)), -1)
        return self._taken(column, self.order[np.maximum.reduceat(places, self.begins)])

    def _first(self, name: str) -> pa.Array:
        if self.are_single or not self.table[name].null_count:
            return self._taken(name, self.order[self.begins])
        known = self._known(name)
        nowhere = len(known)
        places = np.where(known, np.arange(nowhere), nowhere)
        first = np.minimum.reduceat(places, self.begins)
        return self._taken(name, self.order[np.where(first < nowhere, first, self.begins)])

    def _reduced(self, name: str, reduction: str) -> pa.Array:
        if self.are_single:
            return self._taken(name, self.order)
        column, limits = self.table[name], np.iinfo(self.table[name].type.to_pandas_dtype())
        neutral = {"sum": 0, "min": limits.max, "max": limits.min}[reduction]
        values = numbers(column, null=neutral)[self.order]
        found = _REDUCTIONS[reduction].reduceat(values, self.begins)
        valid = None
        if column.null_count:
            valid = np.logical_or.reduceat(self._known(name), self.begins)
        return number_array(found, valid)

    def _known(self, name: str) -> npt.NDArray[np.bool_]:
        """Where it is not null, in `order`."""
        known: npt.NDArray[np.bool_] = numbers(self.table[name].is_valid())[self.order]
        return known

    def _taken(self, name: str, rows: Ints) -> pa.Array:
        column = self.table[name].combine_chunks()
        if len(rows) == len(column) and bool((rows[1:] > rows[:-1]).all()):
            return column
        return column.take(number_array(rows))


def equal_rows(table: pa.Table, keys: Sequence[str]) -> EqualRows:
    """By `keys`, numbers or words that are never null; in their order.

    ```
    b 1        order   1 3 0 2
    a 7   →    begins  0 2 3
    b 2
    a 7
    ```
    """
    code = codes(*(_ordered(table[key]) for key in keys))
    order = np.argsort(code, kind="stable")
    begins = np.flatnonzero(np.diff(code[order], prepend=-1 if len(code) else 0))
    return EqualRows(table=table, keys=tuple(keys), order=order, begins=begins)


def _ordered(column: pa.ChunkedArray) -> npt.NDArray[np.integer]:
    """Numbers that are in order as the values are."""
    if not pa.types.is_string(column.type):
        return numbers(column)
    words, of = words_numbered(column)
    place = {word: number for number, word in enumerate(sorted(words))}
    return np.array([place[word] for word in words], np.int64)[of]
