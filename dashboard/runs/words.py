"""Which rows of a dictionary column have certain words: each word is asked once, not each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc


def have(column: pa.ChunkedArray, words: Iterable[str]) -> pa.ChunkedArray:
    """Whether each row holds one of `words`; false where it is null."""
    wanted = pa.array(list(words), pa.string())
    return where(column, lambda held: pc.is_in(held, wanted))


def where(column: pa.ChunkedArray, test: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """`test` of each row's word (strings → booleans); false where it is null."""
    chunks = [
        pc.fill_null(test(chunk.dictionary).take(chunk.indices), False) for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.bool_())
