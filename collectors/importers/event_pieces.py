"""The bytes of a list of JSON objects, cut between them: nothing is parsed, nothing is copied.

A program that writes a trace writes the same bytes between any two events, such as `,\\n  {\\n
"ph"`, and these cannot stand inside a JSON string: its quote would end the string, and letters
follow it. In a nested list they can, which leaves pieces with unbalanced brackets: whoever parses
a piece finds out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SEPARATOR: Final = re.compile(r'[ \t\r\n]*(,[ \t\r\n]*\{[ \t\r\n]*"[A-Za-z_]+")')
"""Between two objects, with the first key of the next. The key begins with a letter, since
`{": "` can stand where one string ends and another begins."""

_AT_ONCE: Final = 1 << 18
"""Bytes that are looked through at once: what was found in all takes as much memory as they do."""
_WORD: Final = 8
"""Bytes that are compared at once."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Pieces:
    """One object in each text; spaces may follow it.

    Attributes:
        texts: they lie in the bytes that were cut, which must live and stay as they are.
        end: so many bytes were cut; the next piece begins there.
    """

    texts: pa.StringArray
    end: int
    _bytes: npt.NDArray[np.uint8]
    _commas: npt.NDArray[np.int64]

    def put_together(self) -> None:
        """Give the bytes back the commas that were taken out of them."""
        self._bytes[self._commas] = ord(",")


def cut(content: memoryview, separator: bytes) -> Pieces | None:
    """The objects in `content`, which begins with one and goes on for at least as long as one;
    the last is left for the next time, since only what follows it shows that it is whole. None if
    there is no separator in it.

    Of `{"a": 1}, {"a": 2}, {"a"` the commas become spaces, which JSON allows after a value, so that
    the pieces are `{"a": 1}  ` and `{"a": 2}  `. Where one is no UTF-8, all lie in a copy, and
    U+FFFD stands there in its place.
    """
    found = _cut(content, separator)
    if found is None or _is_text(found.texts):
        return found
    found.put_together()
    whole = bytes(content[: found.end]).decode("utf-8", "replace").encode()
    behind = content[found.end : found.end + max(len(separator), _WORD)]
    copy = _cut(memoryview(bytearray(whole + behind)), separator)
    return None if copy is None else replace(copy, end=found.end)


def _cut(content: memoryview, separator: bytes) -> Pieces | None:
    view = np.frombuffer(content, np.uint8)
    commas = _places(view, separator)
    if not len(commas):
        return None
    begins = commas + separator.index(b"{")
    offsets = np.concatenate([[0], begins]).astype(np.int32)
    view[commas] = ord(" ")
    texts = pa.StringArray.from_buffers(len(begins), pa.py_buffer(offsets), pa.py_buffer(content))
    return Pieces(texts=texts, end=int(begins[-1]), _bytes=view, _commas=commas)


def _places(view: npt.NDArray[np.uint8], separator: bytes) -> npt.NDArray[np.int64]:
    """Where the separator begins, in order; it cannot overlap itself."""
    brace = separator.index(b"{")
    within = view[brace : max(len(view) - max(len(separator), _WORD) + brace + 1, brace)]
    is_brace = np.empty(min(len(within), _AT_ONCE), np.bool_)  # new memory takes as long again
    found = [np.empty(0, np.int64)]
    for begin in range(0, len(within), _AT_ONCE):
        part = within[begin : begin + _AT_ONCE]
        np.equal(part, ord("{"), out=is_brace[: len(part)])
        found.append(begin + np.flatnonzero(is_brace[: len(part)]))
    places = np.concatenate(found)
    words = np.ndarray((max(len(view) - _WORD + 1, 0),), "<u8", view, strides=(1,))
    for begin in range(0, len(separator), _WORD):
        start = min(begin, max(len(separator) - _WORD, 0))
        word = separator[start : start + _WORD]
        bits = np.uint64((1 << 8 * len(word)) - 1)
        places = places[words[places + start] & bits == int.from_bytes(word, "little")]
    return places


def _is_text(texts: pa.StringArray) -> bool:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
