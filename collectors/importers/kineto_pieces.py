"""Columns of event texts, many at a time: by their layouts (event_layouts.py), which nearly all
of a profiler's events have. DuckDB picks the values out of others, without an object for each
event; and where that would convert or choose otherwise than Python's parser
(odd_events.py), this one does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from collectors.importers.event_layouts import Layouts
from collectors.importers.kineto_columns import (
    ARGUMENTS,
    COARSE_US,
    EXACT,
    METADATA,
    MOST_WHOLE,
    NO_TIME,
    NONE,
    Bools,
    EventColumns,
    Ints,
    of_events,
    texts_of,
)
from collectors.importers.odd_events import are_odd, has_whole_number
from tracer.arrays import number_array, numpy_numbers, word_array
from tracer.schema import LONGEST_KERNEL

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_FEW: Final = 256
"""So many events without a layout are parsed one by one: DuckDB takes as long to begin."""
_MEMORY: Final = "512MB"
"""For DuckDB, of which a stretch takes some 30."""


class PieceReader:
    """Makes columns of pieces; for one thread at a time."""

    def __init__(self) -> None:
        self._layouts = Layouts()
        self._connection: DuckDBPyConnection | None = None

    def close(self) -> None:
        """Give back its memory."""
        if self._connection is not None:
            self._connection.close()

    def columns(self, pieces: pa.StringArray) -> EventColumns | None:
        """The columns of pieces that hold one event each (event_pieces.py); None if one of them
        does not.
        """
        has_layout, columns = self._layouts.columns(pieces)
        if columns is not None and len(columns) == len(pieces):
            return columns
        parts = [] if columns is None else [(np.flatnonzero(has_layout), columns)]
        left = np.flatnonzero(~has_layout)
        try:
            is_odd = np.ones(len(left), np.bool_)
            if len(left) > _FEW:
                is_odd = are_odd(pieces.take(number_array(left)))
                regular = left[~is_odd]
                parts.append((regular, self._regular(pieces.take(number_array(regular)))))
            odd = left[is_odd]
            if len(odd):
                texts = pieces.take(number_array(odd)).to_pylist()
                parts.append((odd, of_events([json.loads(text) for text in texts])))
        except (ValueError, RecursionError):
            return None
        return _joined(parts, pieces)

    def _regular(self, pieces: pa.StringArray) -> EventColumns:
        import duckdb  # only who imports needs it: 0.1 s and 20 MB

        if self._connection is None:
            self._connection = _connection()
        self._connection.register("pieces", pa.table({"piece": pieces}))
        try:
            found = self._connection.sql(_QUERY).to_arrow_table()["event"].combine_chunks()
        except duckdb.Error as error:
            raise ValueError(str(error)) from error
        finally:
            self._connection.unregister("pieces")
        events, arguments = _fields(found), _fields(found.field("args"))
        start, starts_coarse = _ns_of(events["ts"], pieces, "ts")
        duration, lasts_coarse = _ns_of(events["dur"], pieces, "dur")
        return EventColumns(
            phase=_encoded(events["ph"]),
            category=_encoded(events["cat"], str.lower),
            name=_encoded(events["name"], lambda word: word[:LONGEST_KERNEL]),
            start=start,
            duration=duration,
            is_coarse=starts_coarse | lasts_coarse,
            is_described=numpy_numbers(arguments[METADATA].is_valid()),
            thread=_wholes(events["tid"]),
            json=texts_of(pieces),
            **{column: _wholes(arguments[key]) for column, key in ARGUMENTS.items()},
        )


_TYPES: Final = {
    "ph": "VARCHAR",
    "cat": "VARCHAR",
    "name": "VARCHAR",
    "tid": "BIGINT",
    "ts": "DOUBLE",
    "dur": "DOUBLE",
    "args": dict.fromkeys(ARGUMENTS.values(), "BIGINT") | {METADATA: "VARCHAR"},
}
_QUERY: Final = f"SELECT json_transform(piece, '{json.dumps(_TYPES)}') AS event FROM pieces"


def _connection() -> DuckDBPyConnection:
    """A database in memory, for one thread, that reaches nothing and takes little."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute(f"SET memory_limit = '{_MEMORY}'")
    connection.execute("SET temp_directory = ''")
    connection.execute("SET enable_external_access = false")
    return connection


def _joined(parts: Sequence[tuple[Ints, EventColumns]], pieces: pa.StringArray) -> EventColumns:
    """The columns of parts, each with the rows that it is of."""
    rows = np.concatenate([rows for rows, _ in parts])
    places = np.empty(len(rows), np.int64)
    places[rows] = np.arange(len(rows))
    columns: dict[str, Any] = {}
    for field in fields(EventColumns):
        several = [getattr(part, field.name) for _, part in parts]
        if isinstance(several[0], pa.DictionaryArray):
            both = pa.chunked_array(several).unify_dictionaries().combine_chunks()
            columns[field.name] = both.take(number_array(places))
        elif field.name != "json":
            columns[field.name] = np.concatenate(several)[places]
    return EventColumns(**columns, json=texts_of(pieces))


def _fields(structs: pa.StructArray) -> dict[str, pa.Array]:
    names = [structs.type.field(number).name for number in range(structs.type.num_fields)]
    return dict(zip(names, structs.flatten(), strict=True))


def _ns_of(times: pa.Array, pieces: pa.StringArray, key: str) -> tuple[Ints, Bools]:
    """What `_ns` and `_is_coarse` say of µs as doubles: whole ones that are large are told from
    others by the text.
    """
    us = numpy_numbers(times, null=np.nan)
    is_time = np.abs(us) < EXACT
    us = np.where(is_time, us, 0)
    ns = np.rint(us * 1_000).astype(np.int64)
    is_coarse = np.abs(us) >= COARSE_US
    large = np.flatnonzero(np.abs(us) > (EXACT // 1_000))
    if len(large):
        large = large[has_whole_number(pieces.take(number_array(large)), key)]
        ns[large] = us[large].astype(np.int64) * 1_000
        is_coarse[large] = False
    return np.where(is_time, ns, NO_TIME), is_coarse


def _wholes(numbers: pa.Array) -> Ints:
    found = numpy_numbers(numbers, null=NONE)
    return np.where((found >= NONE) & (found < MOST_WHOLE), found, NONE)


def _encoded(words: pa.Array, change: Callable[[str], str] = str) -> pa.DictionaryArray:
    """By number, null as "", each different word changed; two may become the same, twice."""
    encoded = words.dictionary_encode(null_encoding="encode")
    changed = word_array([change(word or "") for word in encoded.dictionary.to_pylist()])
    return pa.DictionaryArray.from_arrays(encoded.indices, changed)
