"""Which rows of a rank's file can be: the others are left out, so that no analysis meets them.

A file that is whole may still hold what no recorder writes (another program wrote it, or damage
that a checksum would have found): a negative duration, a time that overflows when it is added to
another, a kind that there is not. One such row would spoil every number that it goes into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tracer.arrays import word_array
from tracer.schema import KINDS
from tracer.text import MAX_WORD, plain_text

_TIME: Final = (-(1 << 58), 1 << 58)
"""ns: nine years of uptime, either way for clocks that begin elsewhere. The sum of any two times
and a duration fits into 64 bits."""
_LENGTH: Final = (0, 1 << 53)
"""ns: 104 days, exact in a double."""
_INDEX: Final = (0, (1 << 31) - 1)
_SIZE: Final = (0, 1 << 48)
"""Bytes or elements of one operation: 281 TB, more than any host has."""

_FEW_WORDS: Final = 256

LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "start": _TIME,
    "ts": _TIME,
    "offset": _TIME,
    "duration": _LENGTH,
    "error": _LENGTH,
    "step": _INDEX,
    "stage": _INDEX,
    "microbatch": _INDEX,
    "peer": _INDEX,
    "seq": (0, 1 << 53),
    "correlation": (0, (1 << 40) - 1),
    "bytes": _SIZE,
    "count": _SIZE,
    "flops": (0, 1 << 62),
}
"""Column → the least and the greatest value that can be; null is for the schema to allow."""


def without_null_words(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """The batch with exactly the columns of `wanted`; a row that points to a null word is null.

    Arrow allows null among the words of a dictionary, and cannot join two such dictionaries.
    """
    columns = []
    for field in wanted:
        column = batch.column(field.name)
        if isinstance(column, pa.DictionaryArray) and column.dictionary.null_count:
            column = column.dictionary_decode().dictionary_encode().cast(field.type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def possible_rows(table: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """The rows that can be, their words as plain text, and why the others cannot.

    `table` has the same dictionary in all chunks of a column.

    Before                     After
    start 5, duration 2        start 5, duration 2
    start 9, duration -7       {"duration is not in 0 … 9007199254740992": 1}
    """
    reasons: Counter[str] = Counter()
    possible = None
    for place, field in enumerate(table.schema):
        column = _plain(table.column(place))
        table = table.set_column(place, field, column)
        for why, impossible in _impossible(field, column).items():
            count = pc.sum(impossible).as_py() or 0
            if count:
                reasons[why] += count
                good = pc.invert(impossible)
                possible = good if possible is None else pc.and_(possible, good)
    return (table if possible is None else table.filter(possible)), reasons


def _words(column: pa.ChunkedArray) -> pa.Array | None:
    """The dictionary that all chunks share."""
    is_words = pa.types.is_dictionary(column.type) and column.num_chunks
    return column.chunk(0).dictionary if is_words else None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    words = _words(column)
    if words is None or _are_plain(words):
        return column
    longest = pc.max(pc.utf8_length(words)).as_py() or 0
    odd = pc.any(pc.match_substring_regex(words, r"[\pC\p{Zl}\p{Zp}]")).as_py()
    if longest <= MAX_WORD and not odd:
        return column
    plain = pa.array([plain_text(word) for word in words.to_pylist()], pa.string())
    chunks = [pa.DictionaryArray.from_arrays(chunk.indices, plain) for chunk in column.chunks]
    return pa.chunked_array(chunks, column.type)


def _are_plain(words: pa.Array) -> bool:
    """Whether that can be said without an expression, which takes 0.1 ms to be made ready: of few
    words, all of which can be printed.
    """
    if len(words) > _FEW_WORDS or words.null_count:
        return False
    return all(len(word) <= MAX_WORD and word.isprintable() for word in words.to_pylist())


def _impossible(field: pa.Field, column: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Reason → the rows that it is true of."""
    found = {}
    if not field.nullable and column.null_count:
        found[f"{field.name} is null"] = pc.is_null(column)
    if field.name in LIMITS and column.null_count < len(column):
        low, high = LIMITS[field.name]
        extremes = pc.min_max(column)
        least, most = extremes["min"].as_py(), extremes["max"].as_py()
        if least is not None and (least < low or most > high):
            outside = pc.or_(pc.less(column, low), pc.greater(column, high))
            found[f"{field.name} is not in {low} … {high}"] = pc.fill_null(outside, False)
    words = _words(column) if field.name == "kind" else None
    if words is not None:
        unknown = pc.invert(pc.is_in(words, word_array(KINDS)))
        if pc.any(unknown).as_py():
            rows = [pc.fill_null(unknown.take(chunk.indices), False) for chunk in column.chunks]
            found["kind is none of the format's"] = pa.chunked_array(rows, pa.bool_())
    return found
