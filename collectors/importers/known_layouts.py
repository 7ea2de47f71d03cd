"""What events of one layout share (event_layouts.py): worked out of one of them, and of all layouts
that are known as columns.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from collectors.importers.kineto_columns import ARGUMENTS, METADATA, Bools, Ints, arguments_of
from tracer.schema import LONGEST_KERNEL

TIMES: Final = (("ts",), ("dur",))
WHOLES: Final = {"thread": ("tid",)} | {name: ("args", key) for name, key in ARGUMENTS.items()}
"""Column → where its number is."""
LONGEST: Final = 1 << 11
"""Bytes of an event that has a layout."""
WHOLE_DIGITS: Final = 15
"""So many a double holds exactly, and a division of it by a power of ten is rounded as the parser
rounds; longer times are left to Arrow's parser."""
FRACTION_DIGITS: Final = 8
_SHORT_DIGITS: Final = 12
"""With so many before the point, and three after it, a double of µs times 1,000 is less than half
a ns away from the ns that are written there, and is rounded to these."""
_MOST_NUMBERS: Final = 32
"""Of several digits, in an event that has a layout."""

_TOKEN: Final = re.compile(
    rb'[ \t\r\n]*("[^"\\]*"|-?(1+)(?:\.(1+))?(?![1.eE])|true|false|null|[{}\[\]:,])'
)
_SPACE: Final = b" \t\r\n"
_RUN: Final = re.compile(b"1+")

Token = re.Match[bytes]


@dataclass(kw_only=True, slots=True, frozen=True)
class Layout:
    """What events of one layout share.

    Attributes:
        phase, category, name: words as in `EventColumns`; of a name with digits "".
        named: first and last byte of such a name, else 0 and 0.
        numbers: first byte, digits and digits after the point (-1: no point) of `TIMES` and
            `WHOLES`, one row each; no digits where there is no such number.
        firsts: where whole parts of several digits begin: JSON allows no 0 there; and those of
            negative whole numbers, which are no ids unless they are -0.
    """

    phase: str
    category: str
    name: str
    named: tuple[int, int]
    numbers: npt.NDArray[np.int32]
    firsts: npt.NDArray[np.int32]
    is_described: bool


class KnownLayouts:
    """Layouts by number, and what they say as columns.

    Attributes:
        at, digits, fraction: as in `Layout.numbers`, one row per layout.
        named: first and last byte of its name, where that has digits.
        are_short_times: of `TIMES`, whether they are whole ns that doubles hold exactly.
    """

    def __init__(self, layouts: list[Layout]) -> None:
        self.layouts = layouts
        shape = (len(layouts), len(TIMES) + len(WHOLES), 3)
        numbers = np.array([layout.numbers for layout in layouts], np.int64).reshape(shape)
        self.at, self.digits, self.fraction = numbers.transpose(2, 0, 1).copy()
        self.named = np.array([layout.named for layout in layouts], np.int64).reshape(-1, 2)
        self.are_described = np.array([layout.is_described for layout in layouts], np.bool_)
        digits, fraction = self.digits[:, : len(TIMES)], self.fraction[:, : len(TIMES)]
        self.are_short_times = (fraction < 0) | ((fraction <= 3) & (digits <= _SHORT_DIGITS))
        self._several = np.array([len(layout.firsts) for layout in layouts], np.int64)
        self._firsts = np.zeros((len(layouts), _MOST_NUMBERS), np.int64)
        for layout, row in zip(layouts, self._firsts, strict=True):
            row[: len(layout.firsts)] = layout.firsts  # the others are of the brace that begins it

    def and_more(self, layouts: list[Layout]) -> KnownLayouts:
        """These, and others with the numbers that follow."""
        found = KnownLayouts(layouts)
        found.layouts = self.layouts + layouts
        for name, more in vars(found).items():
            if name != "layouts":
                setattr(found, name, np.concatenate([getattr(self, name), more]))
        return found

    def have_leading_zero(
        self, content: npt.NDArray[np.uint8], begins: Ints, number: Ints, used: Ints
    ) -> Bools:
        """Which rows have a number such as 007 or -0; their layouts are among those that are
        `used`.
        """
        at = self._firsts[:, : self._several[used].max()].take(number, axis=0)
        at += begins[:, np.newaxis]
        found = np.zeros(len(number), np.bool_)
        if at.size:
            # Hardly any: `any` of each row takes as long as to look at all bytes.
            found[np.flatnonzero(content.take(at) == ord("0")) // at.shape[1]] = True
        return found


@dataclass(kw_only=True, slots=True, frozen=True)
class Pattern:
    """What layouts share that differ in how many digits their numbers have: of any run of digits,
    one is there. Runs are named by their place among all of them.

    Attributes:
        phase, category, name: as in `Layout`.
        named: first and last byte of a name with digits, else 0 and 0.
        runs: where each of them is.
        numbers: runs before and after the point of `TIMES` and `WHOLES` (-1: none).
        wholes: runs before the points of all numbers.
        negative: those of them that are negative and have no point.
    """

    phase: str
    category: str
    name: str
    named: tuple[int, int]
    runs: list[int]
    numbers: list[tuple[int, int]]
    wholes: list[int]
    negative: frozenset[int]
    is_described: bool


def shortened(form: bytes) -> bytes:
    """What events of one pattern have in common, of an event whose digits are all 1."""
    return _RUN.sub(b"1", form)


def pattern_of(short: bytes) -> Pattern | None:
    """The pattern of an event of which one digit of each run is left; None if it is not plain."""
    tokens = _tokens(short)
    try:
        event = json.loads(short.decode()) if tokens is not None else None
    except (ValueError, RecursionError):
        return None
    places = _places(tokens or [])
    if not isinstance(event, dict) or places is None:
        return None
    phase, category, name = (event.get(key, "") for key in ("ph", "cat", "name"))
    if not all(isinstance(word, str) for word in (phase, category, name)):
        return None
    runs = [run.start() for run in _RUN.finditer(short)]
    number_of = {place: number for number, place in enumerate(runs)} | {-1: -1}
    numbers = [_number(places.get(place), is_time=True) for place in TIMES]
    numbers += [_number(places.get(place), is_time=False) for place in WHOLES.values()]
    if "1" in phase + category or None in numbers:
        return None
    wholes = [token for token in tokens or [] if token[2]]
    named = (0, 0)
    if "1" in name:
        named, name = (places["name",].start(1) + 1, places["name",].end(1) - 1), ""
    return Pattern(
        phase=phase,
        category=category.lower(),
        name=name[:LONGEST_KERNEL],
        named=named,
        runs=runs,
        numbers=[(number_of[whole], number_of[after]) for whole, after in filter(None, numbers)],
        wholes=[number_of[token.start(2)] for token in wholes],
        negative=frozenset(number_of[token.start(2)] for token in wholes if _is_negative(token)),
        is_described=METADATA in arguments_of(event),
    )


def layout_of(form: bytes, pattern: Pattern) -> Layout | None:
    """The layout of an event of that pattern, whose digits are all 1; None if it has numbers that
    are too long, or too many.
    """
    if len(form.rstrip(_SPACE)) > LONGEST:
        return None
    spans = [run.span() for run in _RUN.finditer(form)]
    lengths = [end - begin for begin, end in spans]
    numbers = []
    for whole, after in pattern.numbers:
        digits = lengths[whole] if whole >= 0 else 0
        fraction = lengths[after] if after >= 0 else -1
        most = WHOLE_DIGITS if fraction < 0 else WHOLE_DIGITS - 1
        if digits > most or fraction > FRACTION_DIGITS:
            return None
        numbers.append((spans[whole][0] if whole >= 0 else 0, digits, fraction))
    firsts = [
        spans[run][0] for run in pattern.wholes if lengths[run] > 1 or run in pattern.negative
    ]
    if len(firsts) > _MOST_NUMBERS:
        return None
    begin, end = (
        byte + sum(lengths[: (before := bisect_left(pattern.runs, byte))]) - before
        for byte in pattern.named
    )
    return Layout(
        phase=pattern.phase,
        category=pattern.category,
        name=pattern.name,
        named=(begin, end),
        numbers=np.array(numbers, np.int32),
        firsts=np.array(firsts, np.int32),
        is_described=pattern.is_described,
    )


def _tokens(text: bytes) -> list[Token] | None:
    end = len(text.rstrip(_SPACE))
    found = list(_TOKEN.finditer(text, 0, end)) if end <= LONGEST else []
    # What lies between two tokens is none.
    is_whole = sum(token.end() - token.start() for token in found) == end
    return found if found and is_whole else None


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


def _number(token: Token | None, *, is_time: bool) -> tuple[int, int] | None:
    """First byte, and first byte after the point, -1 where there is none, or no number that counts;
    None if somebody else should look at it.
    """
    nothing = (-1, -1)
    if token is None:
        return nothing
    if token[2] is None:  # text, which may be a number, or something that is none
        return None if token[1][:1] == b'"' and b"1" in token[1] else nothing
    if not is_time and (token[3] is not None or _is_negative(token)):
        return nothing
    return None if token[1][:1] == b"-" else (token.start(2), token.start(3))


def _is_negative(token: Token) -> bool:
    """Whether it is a whole number below 0, or -0."""
    return token[1][:1] == b"-" and token[3] is None
