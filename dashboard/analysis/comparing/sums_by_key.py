"""Rows of time by rank, step and some key, summed up to a sample per step and key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.comparing.mean_difference import Samples
from dashboard.analysis.roles import Weights

Key: TypeAlias = tuple[Any, ...]
_Ints: TypeAlias = npt.NDArray[np.int64]

_NS_PER_MS: Final = 1e6


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
    ranks, rank = _coded(table["rank"])
    weight = np.array([weights.get(number, 0) for number in ranks], np.float64)
    row = pc.index_in(table["step"], pa.array(steps, pa.int32())).to_numpy()
    numbers = {key: number for number, key in enumerate(keys)}
    found, which = _keyed(table, columns)
    column = np.array([numbers[key] for key in found], np.int64)[which]
    # `np.add.at` adds in the order of the rows: the same to the last digit, however they are read.
    np.add.at(samples, (row, column), weight[rank] * table["duration"].to_numpy() / _NS_PER_MS)
    return samples


def keys_of(table: pa.Table, columns: Sequence[str]) -> list[Key]:
    """The values that `columns` have together, each once."""
    return _keyed(table, columns)[0]


def _keyed(table: pa.Table, columns: Sequence[str]) -> tuple[list[Key], _Ints]:
    """The keys, and which of them each row has."""
    codes = np.zeros(table.num_rows, np.int64)
    for name in columns:
        values, mine = _coded(table[name])
        codes = codes * len(values) + mine
    _, first, which = np.unique(codes, return_index=True, return_inverse=True)
    rows = table.select(columns).take(pa.array(first)).to_pylist()
    return [tuple(row.values()) for row in rows], which


def _coded(column: pa.ChunkedArray) -> tuple[list[Any], _Ints]:
    """The values of a column, null among them, and which of them each row has."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
        words = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
        indices = pa.chunked_array([chunk.indices for chunk in column.chunks], pa.int32())
        return words, indices.to_numpy().astype(np.int64)
    values = pc.unique(column)
    return values.to_pylist(), pc.index_in(column, values).to_numpy().astype(np.int64)
