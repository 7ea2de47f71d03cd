"""Words from files as one line of text: whoever prints them prints no command to a terminal."""

from __future__ import annotations

import unicodedata
import zlib
from typing import Final

MAX_WORD: Final = 2000
"""Characters of a name. Longer ones are kernels with all their template arguments."""

_UNSAFE: Final = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, halves of surrogate pairs, line and paragraph ends."""


def plain_text(word: str) -> str:
    r"""The word without control characters and not longer than a line can be.

    `"a\x1b[31m"` → `"a\\x1b[31m"`. What is cut off leaves its length and checksum, so that two
    words remain two.
    """
    if len(word) > MAX_WORD:
        checksum = zlib.crc32(word.encode(errors="surrogatepass"))
        word = f"{word[:MAX_WORD]}… ({len(word):,} characters, {checksum:08x})"
    if word.isprintable():
        return word
    return "".join(map(_escaped, word))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape").decode("ascii")
