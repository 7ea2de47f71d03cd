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

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.importers.kineto_columns import (
    COARSE_US,
    NO_TIME,
    NONE,
    Bools,
    EventColumns,
    Ints,
    texts_of,
)
from collectors.importers.known_layouts import (
    FRACTION_DIGITS,
    LONGEST,
    TIMES,
    WHOLE_DIGITS,
    WHOLES,
    KnownLayouts,
    Layout,
    Pattern,
    layout_of,
    pattern_of,
    shortened,
)
from tracer.arrays import bool_array, number_array, numpy_numbers, word_array
from tracer.schema import LONGEST_KERNEL

_OFTEN: Final = 4
"""A layout is worked out when so many events have had it; at once where only its numbers have other
lengths than those of one that is known, and as many events share a layout on average: to work it
out takes as long as to parse some events."""
_MOST: Final = 1 << 13
"""Layouts that are remembered, beyond which all are forgotten; patterns; and forms without a layout
of which events are counted."""
_MOST_READ: Final = 16
"""Bytes that are read from where a number begins."""
_AT_ONCE: Final = 1 << 18
"""Bytes that are made alike while they are in the processor's cache."""
_ROWS_AT_ONCE: Final = 1 << 11
"""Events whose numbers are read while they are in the cache."""
_BACK: Final = bytes((byte + ord("0")) % 256 if byte > 9 else ord("1") for byte in range(256))
"""Bytes that `_alike` made → those of the text, digits as 1."""
_TEN: Final = np.array([10**power for power in range(FRACTION_DIGITS + 1)], np.int64)


class Layouts:
    """The layouts that were met; for one thread at a time."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}  # in `_known`, NONE where an event is not plain
        self._rare: dict[bytes, int] = {}  # how many events had them
        self._patterns: dict[bytes, Pattern | None] = {}  # None where an event is not plain
        self._known = KnownLayouts([])
        self._room = np.empty(0, np.uint8)
        self._nines = np.full(_AT_ONCE, 9, np.uint8)  # numpy takes seven times as long with one 9

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
        number_of = self._numbers_of(alike.dictionary.to_pylist(), np.bincount(form))
        number = number_of.take(form)
        # Numbers are read as many bytes, which must be there.
        is_known = (number >= 0) & (begins[1:] <= content.size - _MOST_READ)
        if not is_known.any():
            return is_known, None
        used = number_of[number_of >= 0]
        rows = np.flatnonzero(is_known)
        wrong = self._known.have_leading_zero(view, begins[rows], number[rows], used)
        if wrong.any():
            is_known[rows[wrong]] = False
            rows = np.flatnonzero(is_known)
        found = _Rows(content, begins[rows], number[rows], self._known, used)
        return is_known, found.columns(pieces, rows)

    def _alike(self, content: npt.NDArray[np.uint8]) -> pa.Buffer:
        """The bytes, each less by that of `0`, and all digits 9: two sums that a processor does
        with many bytes at once; in the same room every time, since new memory takes longer.
        """
        if len(self._room) < len(content):
            self._room = np.empty(len(content), np.uint8)
        for begin in range(0, len(content), _AT_ONCE):
            room = self._room[begin : min(begin + _AT_ONCE, len(content))]
            np.subtract(content[begin : begin + _AT_ONCE], np.uint8(ord("0")), out=room)
            np.maximum(room, self._nines[: len(room)], out=room)
        return pa.py_buffer(self._room[: len(content)])

    def _numbers_of(self, forms: list[bytes], counts: Ints) -> Ints:
        """The number of the layout of each form in `_known`, `NONE` where it has none."""
        come_again = len(forms) * _OFTEN <= int(counts.sum())
        if len(self._numbers) > _MOST:
            self._numbers, self._rare, self._known = {}, {}, KnownLayouts([])
        if len(self._patterns) > _MOST:
            self._patterns = {}
        if len(self._rare) >= _MOST and come_again:  # else they would be counted in vain
            self._rare = {}
        found: list[int] = []
        new: list[Layout] = []
        for form, count in zip(forms, counts.tolist(), strict=True):
            number = self._numbers.get(form)
            if number is None:
                number = NONE
                count += self._rare.pop(form, 0)
                may_wait = len(self._rare) < _MOST and len(form) <= LONGEST
                text = form.translate(_BACK) if may_wait or count >= _OFTEN else b""
                short = shortened(text)
                if count >= _OFTEN or (come_again and short in self._patterns):
                    layout = self._layout_of(text, short)
                    if layout is not None:
                        number = len(self._known.layouts) + len(new)
                        new.append(layout)
                    self._numbers[form] = number
                elif may_wait:
                    self._rare[form] = count
            found.append(number)
        if new:
            self._known = self._known.and_more(new)
        return np.array(found, np.int64)

    def _layout_of(self, text: bytes, short: bytes) -> Layout | None:
        if short not in self._patterns:
            self._patterns[short] = pattern_of(short)
        pattern = self._patterns[short]
        return None if pattern is None else layout_of(text, pattern)


class _Rows:
    """The events of one stretch that have a layout: where each begins, and the number of its, which
    is among those that are `used`.
    """

    def __init__(
        self, content: pa.Buffer, begins: Ints, number: Ints, known: KnownLayouts, used: Ints
    ) -> None:
        self._content = content
        self._begins = begins
        self._number = number
        self._known = known
        self._used = used
        self._at, self._digits, self._fraction = known.at, known.digits, known.fraction
        self._read = self._all_numbers()

    def columns(self, pieces: pa.StringArray, rows: Ints) -> EventColumns:
        start, starts_coarse = self._time(0)
        duration, lasts_coarse = self._time(1)
        wholes = {name: self._whole(2 + place) for place, name in enumerate(WHOLES)}
        texts = texts_of(pieces)
        return EventColumns(
            phase=self._dictionary(attrgetter("phase")),
            category=self._dictionary(attrgetter("category")),
            name=self._name(),
            start=start,
            duration=duration,
            is_coarse=starts_coarse | lasts_coarse,
            is_described=self._known.are_described.take(self._number),
            json=lambda chosen: texts(rows[chosen]),
            **wholes,
        )

    def _all_numbers(self) -> dict[int, Ints]:
        """Of each row the last eight digits of its numbers, what is before these, and what is after
        the points of times; what is 0 in all rows is not there.

        All of an event are read at once: other events may no longer be in the processor's cache.
        """
        above, after = np.maximum(self._digits - 8, 0), np.maximum(self._fraction, 0)
        times = slice(0, len(TIMES))
        at = [self._at + above, self._at, (self._at + self._digits + 1)[:, times]]
        digits = np.concatenate([self._digits - above, above, after[:, times]], axis=1)
        read = np.flatnonzero(digits.take(self._used, axis=0).any(axis=0))
        places = np.concatenate(at, axis=1)[:, read]
        shifts = (64 - 8 * digits[:, read]).astype(np.uint64)
        eights = np.ndarray((self._content.size - 7,), "<u8", self._content, strides=(1,))
        numbers = np.empty((len(read), len(self._number)), np.int64)
        for low in range(0, len(self._number), _ROWS_AT_ONCE):
            rows = slice(low, low + _ROWS_AT_ONCE)
            place = places.take(self._number[rows], axis=0)
            place += self._begins[rows, np.newaxis]
            of_rows = shifts.take(self._number[rows], axis=0)
            numbers[:, rows] = _of_digits(eights[place], of_rows).T
        return dict(zip(read.tolist(), numbers, strict=True))

    def _whole(self, which: int) -> Ints:
        return self._where_named(which, self._number_of(which), NONE)

    def _time(self, which: int) -> tuple[Ints, Bools]:
        """ns, and whether they are lost."""
        if not self._known.are_short_times[self._used, which].all():
            return self._long_time(which)
        ns = self._number_of(which) * 1_000
        after = self._after_point(which)
        if after is not None:
            power = _TEN[3 - np.clip(self._fraction[:, which], 0, 3)]
            ns += after * power.take(self._number)
        return self._where_named(which, ns, NO_TIME), np.zeros(len(ns), np.bool_)

    def _long_time(self, which: int) -> tuple[Ints, Bools]:
        """The same as a double in µs has it, rounded as the parser rounds."""
        digits, fraction = self._digits[:, which][self._number], self._fraction[:, which]
        has_point, power = (fraction >= 0)[self._number], _TEN[np.maximum(fraction, 0)]
        whole, after = self._number_of(which), self._after_point(which)
        us = whole * power[self._number] + (0 if after is None else after)
        parts = us / power[self._number]
        long = np.flatnonzero(has_point & (digits + fraction[self._number] > WHOLE_DIGITS))
        if len(long):
            number = self._number[long]
            begins = self._begins[long] + self._at[number, which]
            ends = begins + digits[long] + 1 + fraction[number]
            parts[long] = numpy_numbers(self._texts(begins, ends).cast(pa.float64()))
        ns = np.where(has_point, np.rint(parts * 1_000).astype(np.int64), whole * 1_000)
        return np.where(digits, ns, NO_TIME), has_point & (parts >= COARSE_US)

    def _where_named(self, which: int, values: Ints, nothing: int) -> Ints:
        """The values of rows that have that number, and `nothing` of the others."""
        is_named = self._digits[:, which] > 0
        if is_named[self._used].all():
            return values
        return np.where(is_named.take(self._number), values, nothing)

    def _after_point(self, which: int) -> Ints | None:
        return self._read.get(2 * len(self._at[0]) + which)

    def _number_of(self, which: int) -> Ints:
        nothing = np.zeros(len(self._number), np.int64)
        found = self._read.get(which, nothing)
        above = self._read.get(which + len(self._at[0]))
        return found if above is None else found + above * 100_000_000

    def _name(self) -> pa.DictionaryArray:
        first, last = self._known.named.T
        same = self._dictionary(attrgetter("name"))
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

    def _dictionary(self, of: Callable[[Layout], str]) -> pa.DictionaryArray:
        """The word of each row by its layout's."""
        place: dict[str, int] = {}
        indices = np.zeros(len(self._known.layouts), np.int32)
        for number in self._used.tolist():
            indices[number] = place.setdefault(of(self._known.layouts[number]), len(place))
        return pa.DictionaryArray.from_arrays(
            number_array(indices.take(self._number)), word_array(list(place))
        )


def _of_digits(texts: npt.NDArray[np.uint64], shifts: npt.NDArray[np.uint64]) -> Ints:
    """The numbers that the first digits of eight bytes make, all at once, where so many bits are
    shifted out that none to eight of them are left: neighbours become one number of two digits,
    then of four, then of eight. In place: new memory takes longer than the sums.
    """
    texts <<= shifts
    for mask, factor, bits in (
        (0x0F0F0F0F0F0F0F0F, 10 * (1 << 8) + 1, 8),
        (0x00FF00FF00FF00FF, 100 * (1 << 16) + 1, 16),
        (0x0000FFFF0000FFFF, 10_000 * (1 << 32) + 1, 32),
    ):
        texts &= np.uint64(mask)
        texts *= np.uint64(factor)
        texts >>= np.uint64(bits)
    return texts.view(np.int64)
