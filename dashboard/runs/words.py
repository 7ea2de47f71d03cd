"""Which rows of a dictionary column have certain words: each word is asked once, not each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracer.arrays import word_array


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
