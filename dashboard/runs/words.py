"""Which rows of a dictionary column have certain words: each word is asked once, not each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    return _numbered(column, lambda held: pc.indices_nonzero(test(held)))


def fulfil(column: pa.ChunkedArray, test: Callable[[str], bool]) -> pa.ChunkedArray:
    """The same with a test of one word."""

    def passing(held: pa.Array) -> pa.Array:
        found = [number for number, word in enumerate(held.to_pylist()) if test(word)]
        return number_array(np.array(found, np.uint64))

    return _numbered(column, passing)


def _numbered(column: pa.ChunkedArray, find: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """Whether each row's word is one of those whose numbers `find` gives."""
    chunks = [
        pc.is_in(chunk.indices, find(chunk.dictionary).cast(chunk.indices.type))
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.bool_())
