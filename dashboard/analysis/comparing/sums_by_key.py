"""Rows of time by rank, step and some key, summed up to a sample per step and key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.comparing.corresponding_ranks import Weights
from dashboard.analysis.comparing.mean_difference import Samples
from dashboard.analysis.rows_by_key import Ints, words_numbered

Key: TypeAlias = tuple[Any, ...]

_NS_PER_MS: Final = 1e6
_ROWS: Final = 1 << 18


def sums_by_key(
    table: pa.Table,
    steps: Sequence[int],
    weights: Weights,
    keys: Sequence[Key],
    columns: Sequence[str],
) -> Samples:
    """Rows of rank, step, `columns`, duration → weighted means over ranks, ms; (steps, keys).

    keys: at least those of the table. A row has a few numbers while it is summed, and no object:
    of a long run there are millions.
    """
    samples = np.zeros((len(steps), len(keys)))
    numbers = {key: number for number, key in enumerate(keys)}
    for part in _at_a_time(table):
        ranks, rank = words_numbered(part["rank"])
        weight = np.array([weights.get(number, 0) for number in ranks], np.float64)
        row = pc.index_in(part["step"], pa.array(steps, pa.int32())).to_numpy()
        found, which = _keyed(part, columns)
        column = np.array([numbers[key] for key in found], np.int64)[which]
        # `np.add.at` adds in the order of the rows: the same to the last digit, however they are
        # read, and however many at a time.
        np.add.at(samples, (row, column), weight[rank] * part["duration"].to_numpy() / _NS_PER_MS)
    return samples


def keys_of(table: pa.Table, columns: Sequence[str]) -> list[Key]:
    """The values that `columns` have together, each once."""
    return list(
        dict.fromkeys(key for part in _at_a_time(table) for key in _keyed(part, columns)[0])
    )


def _at_a_time(table: pa.Table) -> Iterator[pa.Table]:
    """Its rows, as many together as take some ten megabytes while they are summed."""
    for begin in range(0, table.num_rows, _ROWS):
        yield table.slice(begin, _ROWS)


def _keyed(table: pa.Table, columns: Sequence[str]) -> tuple[list[Key], Ints]:
    """The keys, and which of them each row has."""
    codes = np.zeros(table.num_rows, np.int64)
    for name in columns:
        values, mine = words_numbered(table[name])
        codes = codes * len(values) + mine
    _, first, which = np.unique(codes, return_index=True, return_inverse=True)
    rows = table.select(columns).take(pa.array(first)).to_pylist()
    return [tuple(row.values()) for row in rows], which
