"""Events by their layout: a profiler writes millions of events that differ in digits only.

Of each layout one event is parsed, by Python's parser, with its digits made equal. Where its values
stand, and what its words are, is then known of all of them, and numpy takes the numbers from there:

    {"ph": "X", "name": "gemm128", "ts": 904.25}
    {"ph": "X", "name": "gemm256", "ts": 917.05}
    {"ph": "X", "name": "gemm111", "ts": 111.11}   their layout

What is not plain, such as an escaped character, an exponent, a key that stands there twice, or text
where a number should be, has no layout, and is somebody else's to parse (kineto_pieces.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.importers.kineto_columns import (
    ARGUMENTS,
    COARSE_US,
    METADATA,
    NO_TIME,
    NONE,
    Bools,
    EventColumns,
    Ints,
    arguments_of,
    texts_of,
)
from tracer.arrays import bool_array, number_array, numpy_numbers, word_array
from tracer.schema import LONGEST_KERNEL

_TIMES: Final = (("ts",), ("dur",))
_WHOLES: Final = {"thread": ("tid",)} | {name: ("args", key) for name, key in ARGUMENTS.items()}
"""Column → where its number is."""
_OFTEN: Final = 4
"""A layout is worked out when so many events have had it."""
_MOST: Final = 1 << 13
"""Layouts that are remembered, and others that are counted."""
_LONGEST: Final = 1 << 11
"""Bytes of an event that has a layout."""
_WHOLE_DIGITS: Final = 15
"""So many a double holds exactly, and a division of it by a power of ten is rounded as the parser
rounds; longer times are left to Arrow's parser."""
_FRACTION_DIGITS: Final = 8
_MOST_READ: Final = 16
"""Bytes that are read from where a number begins."""
_AT_ONCE: Final = 1 << 18
"""Bytes that are made alike while they are in the processor's cache."""
_MOST_NUMBERS: Final = 32
"""Of several digits, in an event that has a layout."""

_BACK: Final = bytes((byte + ord("0")) % 256 if byte else ord("1") for byte in range(256))
"""Bytes that `_alike` made → those of the text, digits as 1."""
_TOKEN: Final = re.compile(
    rb'[ \t\r\n]*("[^"\\]*"|-?(1+)(?:\.(1+))?(?![1.eE])|true|false|null|[{}\[\]:,])'
)
_SPACE: Final = b" \t\r\n"
_TEN: Final = np.array([10**power for power in range(_FRACTION_DIGITS + 1)], np.int64)

Token = re.Match[bytes]


@dataclass(kw_only=True, slots=True, frozen=True)
class Layout:
    """What events of one layout share.

    Attributes:
        phase, category, name: words as in `EventColumns`; of a name with digits "".
        named: first and last byte of such a name, else 0 and 0.
        numbers: first byte, digits and digits after the point (-1: no point) of `_TIMES` and
            `_WHOLES`, one row each; no digits where there is no such number.
        firsts: where whole parts of several digits begin: JSON allows no 0 there.
    """

    phase: str
    category: str
    name: str
    named: tuple[int, int]
    numbers: npt.NDArray[np.int32]
    firsts: npt.NDArray[np.int32]
    is_described: bool


class Layouts:
    """The layouts that were met; for one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[bytes, Layout | None] = {}
        self._rare: dict[bytes, int] = {}  # how many events had them
        self._room = np.empty(0, np.uint8)
        self._kept = np.empty(_AT_ONCE, np.uint8)

    def columns(self, pieces: pa.StringArray) -> tuple[Bools, EventColumns | None]:
        """Which of the pieces, of one event each (event_pieces.py), have a layout, and the columns
        of these; None if none has.
        """
        offsets, content = pieces.buffers()[1:]
        begins = np.frombuffer(offsets, np.int32)[pieces.offset :][: len(pieces) + 1].astype(
            np.int64
        )
        view = np.frombuffer(content, np.uint8)
        alike = pa.BinaryArray.from_buffers(
            pa.binary(), len(pieces), [None, offsets, self._alike(view)], offset=pieces.offset
        ).dictionary_encode()
        form = numpy_numbers(alike.indices)
        layouts = self._layouts(alike.dictionary.to_pylist(), np.bincount(form))
        has_layout = np.array([layout is not None for layout in layouts], np.bool_)
        # Numbers are read as many bytes, which must be there.
        is_known = has_layout[form] & (begins[1:] <= content.size - _MOST_READ)
        used = [layout for layout in layouts if layout is not None]
        if not is_known.any():
            return is_known, None
        rows = np.flatnonzero(is_known)
        number = (np.cumsum(has_layout) - 1)[form]
        wrong = _has_leading_zero(view, begins[rows], number[rows], used)
        if wrong.any():
            is_known[rows[wrong]] = False
            rows = np.flatnonzero(is_known)
        found = _Rows(content, begins[rows], number[rows], used)
        return is_known, found.columns(pieces, rows)

    def _alike(self, content: npt.NDArray[np.uint8]) -> pa.Buffer:
        """The bytes, each less by that of `0`, and all digits 0: sums that a processor does with
        many bytes at once; in the same room every time, since new memory takes longer than that.
        """
        if len(self._room) < len(content):
            self._room = np.empty(len(content), np.uint8)
        for begin in range(0, len(content), _AT_ONCE):
            room = self._room[begin : min(begin + _AT_ONCE, len(content))]
            kept = self._kept[: len(room)]
            np.subtract(content[begin : begin + _AT_ONCE], np.uint8(ord("0")), out=room)
            np.less(room, np.uint8(10), out=kept.view(np.bool_))
            kept -= np.uint8(1)
            room &= kept
        return pa.py_buffer(self._room[: len(content)])

    def _layouts(self, forms: list[bytes], counts: Ints) -> list[Layout | None]:
        found = []
        for form, count in zip(forms, counts.tolist(), strict=True):
            layout = self._known.get(form)
            if layout is None and form not in self._known:
                count += self._rare.pop(form, 0)
                if count >= _OFTEN:
                    layout = layout_of(form.translate(_BACK))
                    if len(self._known) < _MOST:
                        self._known[form] = layout
                elif len(self._rare) < _MOST and len(form) <= _LONGEST:
                    self._rare[form] = count
            found.append(layout)
        return found


def layout_of(form: bytes) -> Layout | None:
    """The layout of an event whose digits are all 1; None if it is not plain."""
    tokens = _tokens(form)
    try:
        event = json.loads(form.decode()) if tokens is not None else None
    except (ValueError, RecursionError):
        return None
    places = _places(tokens or [])
    if not isinstance(event, dict) or places is None:
        return None
    phase, category, name = (event.get(key, "") for key in ("ph", "cat", "name"))
    if not all(isinstance(word, str) for word in (phase, category, name)):
        return None
    numbers = [_number(places.get(place), is_time=True) for place in _TIMES]
    numbers += [_number(places.get(place), is_time=False) for place in _WHOLES.values()]
    if "1" in phase + category or None in numbers:
        return None
    named = (0, 0)
    if "1" in name:
        named, name = (places["name",].start(1) + 1, places["name",].end(1) - 1), ""
    firsts = [token.start(2) for token in tokens or [] if len(token[2] or b"") > 1]
    if len(firsts) > _MOST_NUMBERS:
        return None
    return Layout(
        phase=phase,
        category=category.lower(),
        name=name[:LONGEST_KERNEL],
        named=named,
        numbers=np.array(numbers, np.int32),
        firsts=np.array(firsts, np.int32),
        is_described=METADATA in arguments_of(event),
    )


def _tokens(text: bytes) -> list[Token] | None:
    found: list[Token] = []
    at, end = 0, len(text.rstrip(_SPACE))
    while at < end <= _LONGEST:
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        found.append(token)
        at = token.end()
    return found if found else None


def _places(tokens: list[Token]) -> dict[tuple[str, ...], Token] | None:
    """The first token of the values by their key, of those in the arguments by `("args", key)`;
    None if a key stands there twice.
    """
    found: dict[tuple[str, ...], Token] = {}
    depth, outer = 0, ""
    for token, then, value in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token[1] in (b"{", b"["):
            depth += 1
        elif token[1] in (b"}", b"]"):
            depth -= 1
        elif then[1] == b":" and (depth == 1 or (depth == 2 and outer == "args")):
            key = token[1][1:-1].decode()
            place = (key,) if depth == 1 else (outer, key)
            outer = place[0]
            if place in found:
                return None
            found[place] = value
    return found


def _number(token: Token | None, *, is_time: bool) -> tuple[int, int, int] | None:
    """First byte, digits, digits after the point; (0, 0, -1) if it is none that counts, None if
    somebody else should look at it.
    """
    nothing = (0, 0, -1)
    if token is None:
        return nothing
    if token[2] is None:  # text, which may be a number, or something that is none
        return None if token[1][:1] == b'"' and b"1" in token[1] else nothing
    digits, fraction = len(token[2]), -1 if token[3] is None else len(token[3])
    if not is_time and (fraction >= 0 or token[1][:1] == b"-"):
        return nothing
    most = _WHOLE_DIGITS if fraction < 0 else _WHOLE_DIGITS - 1
    if token[1][:1] == b"-" or digits > most or fraction > _FRACTION_DIGITS:
        return None
    return token.start(2), digits, fraction


def _has_leading_zero(
    content: npt.NDArray[np.uint8], begins: Ints, number: Ints, used: list[Layout]
) -> Bools:
    """Which rows have a number such as 007."""
    places = np.zeros((len(used), max(len(layout.firsts) for layout in used)), np.int64)
    for layout, row in zip(used, places, strict=True):
        row[: len(layout.firsts)] = layout.firsts  # the others are of the brace that begins it
    at = places.take(number, axis=0)
    at += begins[:, np.newaxis]
    found = np.zeros(len(number), np.bool_)
    if at.size:
        # Hardly any: `any` of each row takes as long as to look at all bytes.
        found[np.flatnonzero(content.take(at) == ord("0")) // at.shape[1]] = True
    return found


class _Rows:
    """The events of one stretch that have a layout: where each begins, and the number of its."""

    def __init__(self, content: pa.Buffer, begins: Ints, number: Ints, used: list[Layout]) -> None:
        self._content = content
        self._begins = begins
        self._number = number
        self._used = used
        self._at, self._digits, self._fraction = np.stack(
            [layout.numbers for layout in used], axis=2, dtype=np.int64
        ).transpose(1, 2, 0)
        self._read = self._all_numbers()

    def columns(self, pieces: pa.StringArray, rows: Ints) -> EventColumns:
        start, starts_coarse = self._time(0)
        duration, lasts_coarse = self._time(1)
        wholes = {name: self._whole(2 + place) for place, name in enumerate(_WHOLES)}
        described = np.array([layout.is_described for layout in self._used], np.bool_)
        texts = texts_of(pieces)
        return EventColumns(
            phase=self._dictionary([layout.phase for layout in self._used]),
            category=self._dictionary([layout.category for layout in self._used]),
            name=self._name(),
            start=start,
            duration=duration,
            is_coarse=starts_coarse | lasts_coarse,
            is_described=described[self._number],
            json=lambda chosen: texts(rows[chosen]),
            **wholes,
        )

    def _all_numbers(self) -> dict[int, Ints]:
        """Of each row the last eight digits of its numbers, what is before these, and what is after
        the points of times; what is 0 in all rows is not there.

        All of an event are read at once: other events may no longer be in the processor's cache.
        """
        above, after = np.maximum(self._digits - 8, 0), np.maximum(self._fraction, 0)
        times = slice(0, len(_TIMES))
        at = [self._at + above, self._at, (self._at + self._digits + 1)[:, times]]
        digits = np.concatenate([self._digits - above, above, after[:, times]], axis=1)
        read = np.flatnonzero(digits.any(axis=0))
        place = np.concatenate(at, axis=1)[:, read].take(self._number, axis=0)
        place += self._begins[:, np.newaxis]
        eights = np.ndarray((self._content.size - 7,), "<u8", self._content, strides=(1,))
        numbers = _of_digits(eights[place], digits[:, read].take(self._number, axis=0))
        return dict(zip(read.tolist(), numbers.T, strict=True))

    def _whole(self, which: int) -> Ints:
        return np.where(self._digits[:, which][self._number], self._number_of(which), NONE)

    def _time(self, which: int) -> tuple[Ints, Bools]:
        """ns, and whether they are lost."""
        digits, fraction = self._digits[:, which][self._number], self._fraction[:, which]
        has_point, power = (fraction >= 0)[self._number], _TEN[np.maximum(fraction, 0)]
        whole = self._number_of(which)
        us = whole * power[self._number] + self._read.get(2 * len(self._at[0]) + which, np.int64(0))
        parts = us / power[self._number]
        long = np.flatnonzero(has_point & (digits + fraction[self._number] > _WHOLE_DIGITS))
        if len(long):
            number = self._number[long]
            begins = self._begins[long] + self._at[number, which]
            ends = begins + digits[long] + 1 + fraction[number]
            parts[long] = numpy_numbers(self._texts(begins, ends).cast(pa.float64()))
        ns = np.where(has_point, np.rint(parts * 1_000).astype(np.int64), whole * 1_000)
        return np.where(digits, ns, NO_TIME), has_point & (parts >= COARSE_US)

    def _number_of(self, which: int) -> Ints:
        nothing = np.zeros(len(self._number), np.int64)
        found = self._read.get(which, nothing)
        above = self._read.get(which + len(self._at[0]))
        return found if above is None else found + above * 100_000_000

    def _name(self) -> pa.DictionaryArray:
        first, last = np.array([layout.named for layout in self._used]).T
        same = self._dictionary([layout.name for layout in self._used])
        rows = np.flatnonzero(last[self._number])
        if not len(rows):
            return same
        number, begins = self._number[rows], self._begins[rows]
        several = self._texts(begins + first[number], begins + last[number]).dictionary_encode()
        words = same.dictionary.to_pylist()
        indices = numpy_numbers(same.indices).copy()
        indices[rows] = len(words) + numpy_numbers(several.indices)
        words += [word[:LONGEST_KERNEL] for word in several.dictionary.to_pylist()]
        return pa.DictionaryArray.from_arrays(number_array(indices), word_array(words))

    def _texts(self, begins: Ints, ends: Ints) -> pa.StringArray:
        """What stands between these bytes, which follow each other."""
        offsets = np.stack([begins, ends], axis=1).reshape(-1).astype(np.int32)
        buffers: list[Any] = [None, pa.py_buffer(offsets), self._content]
        with_between = pa.StringArray.from_buffers(len(offsets) - 1, *buffers[1:])
        return with_between.filter(bool_array(np.arange(len(offsets) - 1) % 2 == 0))

    def _dictionary(self, words: list[str]) -> pa.DictionaryArray:
        """The word of each row by its layout's."""
        place = {word: number for number, word in enumerate(dict.fromkeys(words))}
        indices = np.array([place[word] for word in words], np.int32)[self._number]
        return pa.DictionaryArray.from_arrays(number_array(indices), word_array(list(place)))


def _of_digits(texts: npt.NDArray[np.uint64], digits: Ints) -> Ints:
    """The numbers that the first digits of eight bytes make, none to eight of them, all at once:
    neighbours become one number of two digits, then of four, then of eight. In place: new memory
    takes longer than the sums.
    """
    texts <<= (64 - 8 * digits).view(np.uint64)
    texts &= np.uint64(0x0F0F0F0F0F0F0F0F)
    for ten, bits, mask in (
        (10, 8, 0x00FF00FF00FF00FF),
        (100, 16, 0x0000FFFF0000FFFF),
        (10_000, 32, 0x00000000FFFFFFFF),
    ):
        right = texts >> np.uint64(bits)
        texts *= np.uint64(ten)
        texts += right
        texts &= np.uint64(mask)
    return texts.view(np.int64)
