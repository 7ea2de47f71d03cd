"""What the events of a Kineto file say, as columns: of many pieces of text at once, or of events
that were parsed one by one. Both ways give the same columns.

DuckDB picks the values out of the pieces, without an object for each event and without Python's
lock. Where it would convert or choose otherwise than Python's parser (odd_events.py), the event is
parsed by that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.importers.chrome_json import Event
from collectors.importers.odd_events import are_odd, has_whole_number
from tracer.arrays import bool_array, number_array, numpy_numbers, word_array
from tracer.schema import LONGEST_KERNEL

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_TIME: Final = np.iinfo(np.int64).min
NONE: Final = -1
"""Where an event names no number, or one that cannot be."""

_METADATA: Final = "Collective name"
"""The argument that only operations of process groups have."""
_ARGUMENTS: Final = {
    "external": "External id",
    "correlation": "correlation",
    "device": "device",
    "stream": "stream",
}
"""Column → the argument with its whole number."""
_EXACT: Final = 1 << 53
"""Up to here a double holds every whole number; times beyond, in µs, are no times."""
_EXACT_US: Final = _EXACT // 1_000
_COARSE_US: Final = 1e14
"""From here on a double in µs no longer holds nanoseconds: it has 16 digits."""
_MOST_WHOLE: Final = 1 << 62
_MEMORY: Final = "512MB"
"""For DuckDB, of which a stretch takes some 30."""


@dataclass(kw_only=True, slots=True, frozen=True)
class EventColumns:
    """Columns of equal length, in the order of the file.

    Attributes:
        phase, category, name: words without nulls; "" where there are none. Categories are in
            small letters, names not longer than `LONGEST_KERNEL`.
        start, duration: ns on the file's clock, `NO_TIME` where none is named that can be.
        is_coarse: whether one of the two has lost its nanoseconds.
        is_described: whether the arguments tell of an operation of a process group.
        thread, device, stream, external, correlation: ids, `NONE` where none is named that can be.
        json: the whole events in some rows, as text.
    """

    phase: pa.DictionaryArray
    category: pa.DictionaryArray
    name: pa.DictionaryArray
    start: Ints
    duration: Ints
    is_coarse: Bools
    is_described: Bools
    thread: Ints
    device: Ints
    stream: Ints
    external: Ints
    correlation: Ints
    json: Callable[[Ints], list[str]]

    def __len__(self) -> int:
        return len(self.start)

    def parsed(self, rows: Ints) -> list[tuple[Event, dict[str, Any]]]:
        """The whole events in some rows, each with its arguments."""
        events = json.loads(f"[{','.join(self.json(rows))}]")
        return [(event, arguments_of(event)) for event in events]


def of_events(events: Sequence[Event]) -> EventColumns:
    """The columns of parsed events: what each column means is said here."""
    arguments = [arguments_of(event) for event in events]
    times = [(event.get("ts"), event.get("dur")) for event in events]
    return EventColumns(
        phase=_words([str(event.get("ph", "")) for event in events]),
        category=_words([str(event.get("cat", "")).lower() for event in events]),
        name=_words([str(event.get("name", ""))[:LONGEST_KERNEL] for event in events]),
        start=_ints(_ns(start) for start, _ in times),
        duration=_ints(_ns(duration) for _, duration in times),
        is_coarse=np.array([_is_coarse(a) or _is_coarse(b) for a, b in times], np.bool_),
        is_described=np.array([_METADATA in args for args in arguments], np.bool_),
        thread=_ints(whole(event.get("tid")) for event in events),
        json=lambda rows: [json.dumps(events[row]) for row in rows.tolist()],
        **{
            column: _ints(whole(args.get(key)) for args in arguments)
            for column, key in _ARGUMENTS.items()
        },
    )


def arguments_of(event: Event) -> dict[str, Any]:
    """Its arguments; none if they are no object."""
    arguments = event.get("args")
    return arguments if isinstance(arguments, dict) else {}


class PieceReader:
    """Makes columns of pieces; for one thread at a time."""

    def __init__(self) -> None:
        self._connection: DuckDBPyConnection | None = None

    def close(self) -> None:
        """Give back its memory."""
        if self._connection is not None:
            self._connection.close()

    def columns(self, pieces: pa.StringArray) -> EventColumns | None:
        """The columns of pieces that hold one event each (event_pieces.py); None if one of them
        does not.
        """
        import duckdb  # only who imports needs it: 0.1 s and 20 MB

        odd = are_odd(pieces)
        try:
            if not odd.any():
                return self._regular(pieces)
            rows = np.flatnonzero(odd)
            parsed = of_events(
                [json.loads(piece) for piece in pieces.take(number_array(rows)).to_pylist()]
            )
            regular = self._regular(pieces.filter(bool_array(~odd)))
        except (duckdb.Error, ValueError, RecursionError):
            return None
        places = np.argsort(np.concatenate([np.flatnonzero(~odd), rows]), kind="stable")
        return _joined(regular, parsed, places, _texts(pieces))

    def _regular(self, pieces: pa.StringArray) -> EventColumns:
        if self._connection is None:
            self._connection = _connection()
        self._connection.register("pieces", pa.table({"piece": pieces}))
        try:
            found = self._connection.sql(_QUERY).to_arrow_table()["event"].combine_chunks()
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
            is_described=numpy_numbers(arguments[_METADATA].is_valid()),
            thread=_wholes(events["tid"]),
            json=_texts(pieces),
            **{column: _wholes(arguments[key]) for column, key in _ARGUMENTS.items()},
        )


def whole(value: Any) -> int:
    """A whole number that fits into 32 bits or an id of 63, also as text; `NONE` for others."""
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) < 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and NONE <= value < _MOST_WHOLE:
        return value
    return NONE


_TYPES: Final = {
    "ph": "VARCHAR",
    "cat": "VARCHAR",
    "name": "VARCHAR",
    "tid": "BIGINT",
    "ts": "DOUBLE",
    "dur": "DOUBLE",
    "args": dict.fromkeys(_ARGUMENTS.values(), "BIGINT") | {_METADATA: "VARCHAR"},
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


def _texts(pieces: pa.StringArray) -> Callable[[Ints], list[str]]:
    def texts(rows: Ints) -> list[str]:
        found: list[str] = pieces.take(number_array(rows)).to_pylist()
        return found

    return texts


def _joined(
    one: EventColumns, other: EventColumns, places: Ints, texts: Callable[[Ints], list[str]]
) -> EventColumns:
    """Both one after the other, then the rows in `places`."""
    columns: dict[str, Any] = {}
    for field in fields(EventColumns):
        parts = getattr(one, field.name), getattr(other, field.name)
        if isinstance(parts[0], pa.DictionaryArray):
            both = pa.chunked_array(parts).unify_dictionaries().combine_chunks()
            columns[field.name] = both.take(number_array(places))
        elif field.name != "json":
            columns[field.name] = np.concatenate(parts)[places]
    return EventColumns(**columns, json=texts)


def _fields(structs: pa.StructArray) -> dict[str, pa.Array]:
    names = [structs.type.field(number).name for number in range(structs.type.num_fields)]
    return dict(zip(names, structs.flatten(), strict=True))


def _ns(microseconds: Any) -> int:
    if isinstance(microseconds, bool) or not isinstance(microseconds, (int, float)):
        return NO_TIME
    if not abs(microseconds) < _EXACT:  # NaN too
        return NO_TIME
    return round(microseconds * 1_000)


def _is_coarse(microseconds: Any) -> bool:
    return isinstance(microseconds, float) and _COARSE_US <= abs(microseconds) < _EXACT


def _ns_of(times: pa.Array, pieces: pa.StringArray, key: str) -> tuple[Ints, Bools]:
    """What `_ns` and `_is_coarse` say of µs as doubles: whole ones that are large are told from
    others by the text.
    """
    us = numpy_numbers(times, null=np.nan)
    is_time = np.abs(us) < _EXACT
    us = np.where(is_time, us, 0)
    ns = np.rint(us * 1_000).astype(np.int64)
    is_coarse = np.abs(us) >= _COARSE_US
    large = np.flatnonzero(np.abs(us) > _EXACT_US)
    if len(large):
        large = large[has_whole_number(pieces.take(number_array(large)), key)]
        ns[large] = us[large].astype(np.int64) * 1_000
        is_coarse[large] = False
    return np.where(is_time, ns, NO_TIME), is_coarse


def _wholes(numbers: pa.Array) -> Ints:
    found = numpy_numbers(numbers, null=NONE)
    return np.where((found >= NONE) & (found < _MOST_WHOLE), found, NONE)


def _ints(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, np.int64)


def _words(words: list[str]) -> pa.DictionaryArray:
    return word_array(words).dictionary_encode()


def _encoded(words: pa.Array, change: Callable[[str], str] = str) -> pa.DictionaryArray:
    """By number, null as "", each different word changed; two may become the same, twice."""
    encoded = words.dictionary_encode(null_encoding="encode")
    changed = word_array([change(word or "") for word in encoded.dictionary.to_pylist()])
    return pa.DictionaryArray.from_arrays(encoded.indices, changed)
