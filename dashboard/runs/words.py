"""Which rows have certain words: each word of a dictionary column is asked once, not each row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracer.arrays import number_array, word_array


def have(column: pa.ChunkedArray, words: Iterable[str]) -> pa.ChunkedArray:
    """Whether each row holds one of `words`; false where it is null."""
    wanted = word_array(list(words))
    return where(column, lambda held: pc.is_in(held, wanted))


def where(column: pa.ChunkedArray, test: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """`test` of each row's word (strings → booleans); false where it is null."""
    found = [test(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(
        [pc.and_kleene(chunk, chunk.is_valid()) if chunk.null_count else chunk for chunk in found],
        pa.bool_(),
    )


def fulfil(column: pa.ChunkedArray, test: Callable[[str], bool]) -> pa.ChunkedArray:
    """The same with a test of one word."""

    def passing(words: pa.Array) -> pa.Array:
        found = np.array([test(word) for word in words.to_pylist()], np.bool_)
        bits = np.packbits(found, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(words), [None, pa.py_buffer(bits)])

    return where(column, passing)


def chosen(
    rows: pa.Table,
    steps: Collection[int] | None,
    kinds: Collection[str] | None,
    lanes: Callable[[str], bool] | None,
) -> pa.ChunkedArray | None:
    """Which events are of these steps and kinds, and on lanes for which `lanes` is true; of what is
    None all are, and None is all rows.
    """
    found = []
    if steps is not None:
        found.append(pc.is_in(rows["step"], number_array(np.array(sorted(steps), np.int32))))
    if kinds is not None:
        found.append(have(rows["kind"], kinds))
    if lanes is not None:
        found.append(fulfil(rows["lane"], lanes))
    return reduce(pc.and_, found) if found else None
