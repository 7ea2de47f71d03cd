"""What the events of a Kineto file say, as columns: of many pieces of text at once
(kineto_pieces.py), or of events that were parsed one by one. Both ways give the same columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.importers.chrome_json import Event
from tracer.arrays import number_array, word_array
from tracer.schema import LONGEST_KERNEL

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_TIME: Final = np.iinfo(np.int64).min
NONE: Final = -1
"""Where an event names no number, or one that cannot be."""

METADATA: Final = "Collective name"
"""The argument that only operations of process groups have."""
ARGUMENTS: Final = {
    "external": "External id",
    "correlation": "correlation",
    "device": "device",
    "stream": "stream",
    "seq": "Seq",
}
"""Column → the argument with its whole number."""
_OWN: Final = (
    r'"(?:ts|dur|External id|Seq|correlation|Record function id|Ev Idx|Sequence number)"'
    r"[ \t\r\n]*:[ \t\r\n]*-?[0-9][0-9.]*"
)
"""Numbers by which operations differ that are the same otherwise. In a JSON string it cannot stand
whole, since quotes are escaped there; of a key that ends so, nobody asks."""
EXACT: Final = 1 << 53
"""Up to here a double holds every whole number; times beyond, in µs, are no times."""
COARSE_US: Final = 1e14
"""From here on a double in µs no longer holds nanoseconds: it has 16 digits."""
MOST_WHOLE: Final = 1 << 62


@dataclass(kw_only=True, slots=True, frozen=True)
class EventColumns:
    """Columns of equal length, in the order of the file.

    Attributes:
        phase, category, name: words without nulls; "" where there are none. Categories are in
            small letters, names not longer than `LONGEST_KERNEL`.
        start, duration: ns on the file's clock, `NO_TIME` where none is named that can be.
        is_coarse: whether one of the two has lost its nanoseconds.
        is_described: whether the arguments tell of an operation of a process group.
        thread, device, stream, external, correlation, seq: ids, `NONE` where none is named that can
            be.
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
    seq: Ints
    json: Callable[[Ints], pa.StringArray]

    def __len__(self) -> int:
        return len(self.start)

    def parsed(self, rows: Ints) -> list[tuple[Event, dict[str, Any]]]:
        """The whole events in some rows, each with its arguments."""
        if not len(rows):
            return []
        events = json.loads(f"[{','.join(self.json(rows).to_pylist())}]")
        return [(event, arguments_of(event)) for event in events]

    def described(self, rows: Ints) -> pa.DictionaryArray:
        """What the events in some rows say, as JSON, but for the numbers that each has of its own.

        ```
        {"name": "all_reduce", "ts": 904.25, "args": {"Seq": 7, "dtype": "Float"}}
        {"name": "all_reduce", "":0, "args": {"":0, "dtype": "Float"}}
        ```
        """
        alike = pc.replace_substring_regex(self.json(rows), pattern=_OWN, replacement='"":0')
        return alike.dictionary_encode()


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
        is_described=np.array([METADATA in args for args in arguments], np.bool_),
        thread=_ints(whole(event.get("tid")) for event in events),
        json=lambda rows: word_array([json.dumps(events[row]) for row in rows.tolist()]),
        **{
            column: _ints(whole(args.get(key)) for args in arguments)
            for column, key in ARGUMENTS.items()
        },
    )


def arguments_of(event: Event) -> dict[str, Any]:
    """Its arguments; none if they are no object."""
    arguments = event.get("args")
    return arguments if isinstance(arguments, dict) else {}


def texts_of(pieces: pa.StringArray) -> Callable[[Ints], pa.StringArray]:
    """What `EventColumns.json` is of such pieces."""
    return lambda rows: pieces.take(number_array(rows))


def whole(value: Any) -> int:
    """A whole number that fits into 32 bits or an id of 63, also as text; `NONE` for others."""
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) < 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and NONE <= value < MOST_WHOLE:
        return value
    return NONE


def _ns(microseconds: Any) -> int:
    if isinstance(microseconds, bool) or not isinstance(microseconds, (int, float)):
        return NO_TIME
    if not abs(microseconds) < EXACT:  # NaN too
        return NO_TIME
    return round(microseconds * 1_000)


def _is_coarse(microseconds: Any) -> bool:
    return isinstance(microseconds, float) and COARSE_US <= abs(microseconds) < EXACT


def _ints(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, np.int64)


def _words(words: list[str]) -> pa.DictionaryArray:
    return word_array(words).dictionary_encode()
