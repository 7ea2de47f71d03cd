"""Rows of large tables by what they have in common, found by sorting once instead of by looking
through all rows for each key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_CODES: Final = 2**62
"""Combinations of values that one number can tell apart."""


@dataclass(slots=True, frozen=True)
class RowsByKey:
    """The rows that have each key: `rows[key]`, in their order."""

    order: Ints
    begins: Ints

    def __getitem__(self, key: int) -> Ints:
        return self.order[self.begins[key] : self.begins[key + 1]]


def rows_by_key(keys: npt.NDArray[np.integer], count: int) -> RowsByKey:
    """By keys 0 to `count` - 1; rows with others are left out.

    `[1, 0, 1]` → 0: `[1]`, 1: `[0, 2]`
    """
    order = np.argsort(keys, kind="stable")
    begins = np.searchsorted(keys[order], np.arange(count + 1))
    return RowsByKey(order=order, begins=begins)


def numbered(*columns: npt.NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Rows that are equal in all columns have one number, in order of the first column, then the
    next. The first row of each number, and the number of each row.

    `[5, 3, 5], [1, 2, 1]` → `[1, 0]` and `[1, 0, 1]`
    """
    code = codes(*columns)
    _, first, of = np.unique(code, return_index=True, return_inverse=True)
    return first, of


def codes(*columns: npt.NDArray[np.integer]) -> Ints:
    """A number for each row: equal rows have the same one, and it grows with the first column, then
    with the next.

    `[5, 3, 5], [1, 2, 1]` → `[4, 1, 4]`
    """
    code = np.zeros(len(columns[0]), np.int64)
    size = 1
    for column in columns:
        low = int(column.min(initial=0))
        width = int(column.max(initial=0)) - low + 1
        if size * width > _CODES:
            (known, code), (values, column) = (
                np.unique(numbers, return_inverse=True) for numbers in (code, column)
            )
            size, low, width = len(known), 0, len(values)
        code = code * width + (column.astype(np.int64, copy=False) - low)
        size *= width
    return code


def words_numbered(words: pa.ChunkedArray) -> tuple[list[Any], Ints]:
    """The different words (or numbers) of a column, null among them, and the number of each row's.

    `a, null, a` → `[a, null]` and `[0, 1, 0]`
    """
    found = pc.dictionary_encode(words, null_encoding="encode")
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    if isinstance(found, pa.ChunkedArray):  # a column without rows
        return [], np.zeros(0, np.int64)
    known, numbers = found.dictionary.to_pylist(), found.indices
    if numbers.null_count:  # of a column that was a dictionary already, they are not encoded
        known += [] if None in known else [None]
        numbers = pc.fill_null(numbers.cast(pa.int64()), known.index(None))
    return known, numbers.to_numpy().astype(np.int64)


def combinations_numbered(table: pa.Table, columns: Sequence[str]) -> tuple[list[list[Any]], Ints]:
    """The different values that `columns` have together, each once, and the number of each row's.

    Columns a: x, y, x and b: 1, null, 1 → `[["x", 1], ["y", None]]` and `[0, 1, 0]`
    """
    words = [words_numbered(table[name]) for name in columns]
    first, of = numbered(*(number for _, number in words))
    told = [[known[n] for n in number[first].tolist()] for known, number in words]
    return [list(values) for values in zip(*told, strict=True)], of


def sums(of: Ints, values: Ints, count: int) -> Ints:
    """Of each number 0 to `count` - 1 the sum of its rows' values, exactly."""
    found = np.zeros(count, np.int64)
    np.add.at(found, of, values)
    return found


def summed(table: pa.Table, keys: Sequence[str], values: Sequence[str]) -> pa.Table:
    """Of rows with the same `keys` one, with the sums of `values`; in the order of their first.

    Columns rank, ns: 0, 4 and 1, 5 and 0, 6 → 0, 10 and 1, 5
    """
    grouped = table.group_by(list(keys), use_threads=False)
    found = grouped.aggregate([(name, "sum") for name in values])
    found = found.select([*keys, *(f"{name}_sum" for name in values)])
    return found.rename_columns([*keys, *values])


def medians(of: Ints, values: npt.NDArray[np.integer] | Floats) -> Floats:
    """For each row the median of the rows with its number.

    `[0, 1, 0], [2, 5, 4]` → `[3, 5, 3]`
    """
    order = np.lexsort((values, of))
    ordered, known = values[order].astype(np.float64), of[order]
    begins = np.flatnonzero(np.diff(known, prepend=-1 if len(known) else 0))
    counts = np.diff(np.append(begins, len(known)))
    of_group = (ordered[begins + (counts - 1) // 2] + ordered[begins + counts // 2]) / 2
    found = np.empty(len(values), np.float64)
    found[order] = np.repeat(of_group, counts)
    return found


def medians_of_other_rows(values: Floats) -> Floats:
    """For each row the median of all other rows, column by column; two rows or more.

    ```
    1  10        6  30      (of 5 and 7, of 40 and 20)
    5  40   →    4  15
    7  20        3  25
    ```
    """
    ordered = np.sort(values, axis=0)
    place = np.argsort(np.argsort(values, axis=0), axis=0)
    others = len(values) - 1
    # Without its own place, what stands at k in the order of all stands there still, or after it.
    low, high = ((k + (place <= k)) for k in ((others - 1) // 2, others // 2))
    taken: Floats = np.take_along_axis(ordered, low, axis=0)
    return (taken + np.take_along_axis(ordered, high, axis=0)) / 2


def medians_of_others(owner: npt.NDArray[np.integer], values: Ints) -> Floats:
    """For each row the median of the values of all other owners; of its own where there are none.

    `[0, 0, 1, 2], [1, 3, 5, 9]` → `[7, 7, 3, 3]` (of 5 and 9, of 1, 3 and 9, of 1, 3 and 5)
    """
    owners, place = np.unique(owner, return_inverse=True)
    order = np.argsort(values, kind="stable")
    ordered = values[order].astype(np.float64)
    where = rows_by_key(place[order], len(owners))
    found = np.zeros(len(owners))
    for number in range(len(owners)):
        mine = where[number]
        others = len(values) - len(mine)
        if others:
            # The k-th of the others has as many of its own before it as stand there in the order.
            before = mine - np.arange(len(mine))
            middle = np.array([(others - 1) // 2, others // 2])
            at = middle + np.searchsorted(before, middle, side="right")
        else:
            at = mine[[(len(mine) - 1) // 2, len(mine) // 2]]
        found[number] = (ordered[at[0]] + ordered[at[1]]) / 2
    return found[place]
