"""Columns of values → record batches of the trace format, for whoever does not record them live.

Importers, generators and tests write through here; the recorder packs its own (batches.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from tracer.arrays import int_array, number_array, word_array

Column: TypeAlias = Any
"""A list (None is null), a numpy array, or an Arrow array (words may be dictionary-encoded)."""

_MOST_TEXT: Final = 64 << 20
"""Characters of all words of a column: names repeat, so more are no names."""


class Vocabulary:
    """The words of one column in the order of their first use: each batch's dictionary extends
    the one before it, so that the stream carries only the difference.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._characters = 0

    def encode(self, words: Column) -> pa.DictionaryArray:
        """The words as indices into all words so far.

        `["a", "b", "a"]`, then `["c", None]` → indices 0, 1, 0 of a, b and 2, null of a, b, c.

        Raises:
            ValueError: they are too many to be names.
        """
        encoded = _dictionary(words)
        numbers = self._numbers
        of_batch = []
        for word in encoded.dictionary.to_pylist():
            if word not in numbers:
                self._characters += len(word)
                numbers[word] = len(numbers)
            of_batch.append(numbers[word])
        if self._characters > _MOST_TEXT:
            raise ValueError(f"more than {_MOST_TEXT:,} characters of different words")
        indices = number_array(np.array(of_batch, np.int32)).take(encoded.indices)
        return pa.DictionaryArray.from_arrays(indices, word_array(list(numbers)))


class Batches:
    """Makes batches of one schema; one per file, since it keeps the file's words."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._words = {
            field.name: Vocabulary() for field in schema if pa.types.is_dictionary(field.type)
        }

    def batch(self, columns: Mapping[str, Column]) -> pa.RecordBatch:
        """One batch; columns that are not given are null.

        Raises:
            ValueError: a column that the schema does not have, columns of different lengths, or
                values that a column cannot hold.
        """
        unknown = columns.keys() - set(self.schema.names)
        if unknown:
            raise ValueError(f"{sorted(unknown)}: no such columns; there are {self.schema.names}")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns of different lengths, or none: {lengths}")
        rows = next(iter(lengths.values()))
        arrays = [self._array(field, columns.get(field.name), rows) for field in self.schema]
        for field, array in zip(self.schema, arrays, strict=True):
            if array.null_count and not field.nullable:
                raise ValueError(f"column {field.name!r}: null, which it may not be")
        return pa.record_batch(arrays, schema=self.schema)

    def _array(self, field: pa.Field, values: Column | None, rows: int) -> pa.Array:
        if values is None:
            return pa.nulls(rows, field.type)
        try:
            if field.name in self._words:
                return self._words[field.name].encode(values)
            return _numbers(values, field.type).cast(field.type)
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise ValueError(f"column {field.name!r}: {error}") from error


def _dictionary(words: Column) -> pa.DictionaryArray:
    if isinstance(words, pa.DictionaryArray):
        return words
    if isinstance(words, np.ndarray):
        words = words.tolist()
    plain = words if isinstance(words, pa.Array) else word_array(words)
    return plain.dictionary_encode()


def _numbers(values: Column, type_: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray):
        return number_array(values)
    return int_array(values) if pa.types.is_integer(type_) else pa.array(values, type_)
