"""Which events, as pieces of JSON text, DuckDB might read otherwise than Python's parser.

One regular expression says it, since RE2 looks at each byte once, whatever it is asked for.
It may name more than needed: these are parsed one by one, which takes longer and is never wrong.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.importers.kineto_columns import ARGUMENTS
from tracer.arrays import number_array, numpy_numbers

TIMES: Final = ("ts", "dur")
WHOLE: Final = ("tid", *ARGUMENTS.values())
WORDS: Final = ("ph", "cat", "name", "Collective name")
OBJECTS: Final = ("args",)

_MOST_BYTES: Final = 1_000
_MOST_BRACKETS: Final = 100
"""Python gives up at a depth of some hundred; fewer brackets, or bytes, cannot go so deep."""


def are_odd(pieces: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which of the pieces, each one JSON value, must go through Python's parser."""
    odd: npt.NDArray[np.bool_] = numpy_numbers(pc.match_substring_regex(pieces, _ODD)).copy()
    long = np.flatnonzero(numpy_numbers(pc.binary_length(pieces)) > _MOST_BYTES)
    if len(long):
        texts = pieces.take(number_array(long))
        brackets = pc.add(pc.count_substring(texts, "["), pc.count_substring(texts, "{"))
        odd[long[numpy_numbers(brackets) > _MOST_BRACKETS]] = True
    return odd


def has_whole_number(pieces: pa.StringArray, key: str) -> npt.NDArray[np.bool_]:
    """Whether the number of that key is written without point and exponent."""
    found = pc.match_substring_regex(pieces, rf'"{re.escape(key)}"{_THEN}-?[0-9]+[,\]}} \t\r\n]')
    return numpy_numbers(found)


_SPACE: Final = r"[ \t\r\n]*"
_THEN: Final = f"{_SPACE}:{_SPACE}"


def _any(keys: tuple[str, ...]) -> str:
    return f'"(?:{"|".join(keys)})"{_THEN}'


_ODD: Final = "(?s)" + "|".join(
    (
        r"\\u",  # half a character, which only Python reads, or a letter of a key
        *(f'"{key}"{_SPACE}:.*"{key}"{_SPACE}:' for key in (*TIMES, *WHOLE, *WORDS, *OBJECTS)),
        _any(TIMES) + r"(?:[^-0-9 \t\r\n]|-[^0-9])",  # no number, or null: not the same as none
        _any(WHOLE) + r"(?:[^-0-9 \t\r\n]|-[^0-9]|-?[0-9]+[^0-9,} \t\r\n])",
        _any(WORDS) + r'[^" \t\r\n]',
        rf",{_SPACE}[}}\]]",  # DuckDB takes a comma too much, and `inf`; these are refused
        rf"[:,\[]{_SPACE}-?(?i:nan|inf|infinity){_SPACE}[,}}\]]",
    )
)
