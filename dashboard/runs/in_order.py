"""The events of a rank in order of their start, a stretch of time after the other.

A rank writes an event when it ends, so what a file has is in order of start only nearly, and a step
or what a device did may come much later. So its parts, each sorted, go into a temporary file in
pieces, and are merged from there: a piece is read when the merge comes to its first start. What is
in memory does not depend on how many events there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Final

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from dashboard.runs.columns import numbers
from tracer.arrays import number_array, word_array

STRETCH: Final = 1 << 16
"""Events of a stretch, if no two of it start at the same time: what is made of them takes some
hundred bytes for each."""
_PIECES: Final = 16
"""Of a stretch. Parts that overlap have a piece of each of them in memory."""


class InOrder:
    """Takes the events of one rank in parts, each in order of start; then gives all of them.

    Events that start together come in the order in which they were added, and in one stretch.
    """

    def __init__(self, file: IO[bytes], *, stretch: int = STRETCH) -> None:
        """file: for what is not in memory; written from its beginning."""
        self._file = file
        self._stretch = stretch
        self._first: pa.Table | None = None
        self._writer: ipc.RecordBatchFileWriter | None = None
        self._schema: pa.Schema | None = None
        self._starts: list[int] = []
        self._words: dict[str, dict[str | None, int]] = {}

    def add(self, part: pa.Table) -> None:
        """Some more events, with the columns of the parts before."""
        if self._schema is None:
            self._first, self._schema = part, part.schema
        elif part.num_rows:
            for known in (self._first, part):
                if known is not None:
                    self._write(known)
            self._first = None

    def stretches(self) -> Iterator[pa.Table]:
        """All events, in stretches that begin later than the one before has begun its last event.
        None where nothing was added; an empty one where that had no rows.
        """
        if self._first is not None:
            yield from _sliced(self._first, self._stretch)
        elif self._writer is not None:
            self._writer.close()
            self._file.flush()
            words = {name: word_array([*known]) for name, known in self._words.items()}
            for table in self._merged(ipc.open_file(pa.PythonFile(self._file, "r"))):
                yield _with_words(table, words, self._schema)

    def _write(self, part: pa.Table) -> None:
        part = _without_words(part, self._words)
        if self._writer is None:
            self._writer = ipc.new_file(pa.PythonFile(self._file, "w"), part.schema)
        for batch in part.combine_chunks().to_batches(max(self._stretch // _PIECES, 1)):
            self._starts.append(batch["start"][0].as_py())
            self._writer.write_batch(batch)

    def _merged(self, pieces: ipc.RecordBatchFileReader) -> Iterator[pa.Table]:
        waiting: dict[int, pa.RecordBatch] = {}
        order = np.argsort(self._starts, kind="stable").tolist()
        for this, following in zip(order, [*order[1:], None], strict=True):
            waiting[this] = pieces.get_batch(this)
            # what starts before all pieces that are not read is known in full
            ends = {
                place: _below(piece, None if following is None else self._starts[following])
                for place, piece in waiting.items()
            }
            if following is not None and sum(ends.values()) < self._stretch:
                continue
            parts = [waiting[place].slice(0, ends[place]) for place in sorted(waiting)]
            waiting = {
                place: piece.slice(ends[place])
                for place, piece in waiting.items()
                if ends[place] < piece.num_rows
            }
            table = pa.Table.from_batches(parts).combine_chunks()
            yield _sorted(table)


def _sliced(table: pa.Table, stretch: int) -> Iterator[pa.Table]:
    """A table that is in order, cut where later events begin."""
    start = numbers(table["start"])
    low = 0
    while low + stretch < len(start):
        high = int(np.searchsorted(start, start[low + stretch - 1], side="right"))
        yield table.slice(low, high - low)
        low = high
    if low < len(start) or not low:
        yield table.slice(low)


def _sorted(table: pa.Table) -> pa.Table:
    start = numbers(table["start"])
    if bool((start[1:] >= start[:-1]).all()):
        return table
    return table.take(number_array(np.argsort(start, kind="stable")))


def _below(piece: pa.RecordBatch, bound: int | None) -> int:
    """How many of its rows start before that."""
    if bound is None:
        return int(piece.num_rows)
    return int(np.searchsorted(np.from_dlpack(piece["start"]), bound, side="left"))


def _without_words(table: pa.Table, known: dict[str, dict[str | None, int]]) -> pa.Table:
    """With the place of each word among the known ones, which grow by the new ones, in its stead:
    dictionaries of an Arrow file cannot change.
    """
    for place, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        mine = known.setdefault(field.name, {})
        chunks = []
        for chunk in table.column(place).chunks:
            words = chunk.dictionary.to_pylist()
            of_word = np.array([mine.setdefault(word, len(mine)) for word in words], np.int32)
            same = bool((of_word == np.arange(len(words))).all())
            chunks.append(chunk.indices if same else number_array(of_word).take(chunk.indices))
        table = table.set_column(place, field.name, pa.chunked_array(chunks, pa.int32()))
    return table


def _with_words(
    table: pa.Table, words: Mapping[str, pa.Array], schema: pa.Schema | None
) -> pa.Table:
    columns = [
        pa.chunked_array(
            [pa.DictionaryArray.from_arrays(chunk, words[name]) for chunk in column.chunks],
            pa.dictionary(pa.int32(), pa.string()),
        )
        if name in words
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)
