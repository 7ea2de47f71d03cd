"""Chrome's trace-event JSON, plain or gzip, event by event: the file is never in memory as a whole.

Kineto, Perfetto's exporter and others write an object with `traceEvents` and facts around it;
the bare list of events is allowed too. Text comes in chunks, and Python's own JSON scanner takes
one value after the other from it (docs/decisions.md says why no streaming parser does).
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tracer.errors import DamagedTrace
from tracer.text import plain_text

_CHUNK: Final = 1 << 20
_MOST_EXPANSION: Final = 200
"""gzip makes traces 10 to 30 times smaller; 1,000 times is a file of equal bytes."""
_UNSUSPICIOUS: Final = 16 << 20
"""Bytes up to which the expansion does not matter."""
_LONGEST: Final = 16 << 20
"""Characters of one event or fact: the largest are lists of all process groups."""

_MOST_FACTS: Final = 1_000
"""Kineto writes some ten, and one for each message of its log."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_BETWEEN: Final = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_SAFE: Final = 1 << 12
"""So far from the end of what was read an event is hardly ever cut."""

Event = dict[str, Any]


class ChromeTrace:
    """One file; iterate over its `events`, then look at its `facts`.

    Attributes:
        facts: what stands beside the events: what comes before them at once, the rest afterwards.
    """

    def __init__(self, path: Path, advance: Callable[[int], None] = lambda done: None) -> None:
        self.path = path
        self.facts: dict[str, Any] = {}
        self._advance = advance

    def events(self) -> Iterator[Event]:
        """All events in the order of the file.

        Raises:
            DamagedTrace: it is cut off, no JSON, no trace, or made to fill the memory.
        """
        try:
            with _opened(self.path) as (raw, unpacked):
                text = _Text(raw, unpacked, self._advance)
                yield from self._events(text)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(f"gzip: {error}") from error
        except RecursionError as error:
            raise self._damaged("nested deeper than any trace") from error
        except ValueError as error:
            raise self._damaged(error) from error

    def _events(self, text: _Text) -> Iterator[Event]:
        if text.next() == "[":
            yield from text.events()
            return
        text.take("{")
        found = False
        while text.next() != "}":
            key = text.value()
            text.take(":")
            if key == "traceEvents" and text.next() == "[":
                found = True
                yield from text.events()
            else:
                self.facts[str(key)] = text.value()
                if len(self.facts) > _MOST_FACTS:
                    raise ValueError(f"more than {_MOST_FACTS:,} facts beside the events")
            if text.next() == ",":
                text.take(",")
        if not found:
            raise ValueError("there is no list 'traceEvents' in it")

    def _damaged(self, error: object) -> DamagedTrace:
        said = plain_text(" ".join(str(error).split()))[:200]
        return DamagedTrace(
            f"{self.path}: not a whole JSON trace ({said}); a profiler that was killed leaves half "
            "a file: record it again, or leave this file out"
        )


def is_chrome_json(path: Path, *words: bytes) -> bool:
    """Whether the file begins as JSON and one of `words` stands in its first part."""
    with _opened(path) as (_, unpacked):
        try:
            start = unpacked.read(_CHUNK)
        except (EOFError, zlib.error, OSError):
            return False
    return start.lstrip()[:1] in (b"{", b"[") and any(word in start for word in words)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedReader, Any]]:
    """The file as it is on disk, and its unpacked content."""
    with path.open("rb") as raw:
        if raw.peek(2)[:2] == b"\x1f\x8b":
            yield raw, gzip.GzipFile(fileobj=raw)
        else:
            yield raw, raw


class _Text:
    """The text of a file from which values are taken, one after the other."""

    def __init__(
        self, raw: io.BufferedReader, unpacked: Any, advance: Callable[[int], None]
    ) -> None:
        self._raw = raw
        self._unpacked = unpacked
        self._advance = advance
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._bytes = 0
        self._done = 0

    def next(self) -> str:
        """The next character that is no space; it stays there."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise ValueError("it is cut off")

    def take(self, character: str) -> None:
        """The next character, which is that one."""
        if self.next() != character:
            raise ValueError(f"{self._text[self._at]!r} where {character!r} should be")
        self._at += 1

    def value(self) -> Any:
        """The next value, whole."""
        self.next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                # Wrong, or only not there yet: then the error is at the end of what is there.
                if len(self._text) - self._at > _LONGEST:
                    raise ValueError(f"one value has more than {_LONGEST:,} characters") from error
                if not self._more():
                    raise ValueError(f"it is cut off, or {error.msg}") from error
                continue
            # A number at the end may go on in the next chunk.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return value

    def events(self) -> Iterator[Event]:
        """The objects of the list that comes next.

        The inner loop stays in what is there already, since it turns for every event.
        """
        self.take("[")
        while self.next() != "]":
            text, at, scan, between = self._text, self._at, self._scan, _BETWEEN.match
            safe = len(text) - _SAFE
            while at < safe and text[at] == "{":
                try:
                    value, end = scan(text, at)
                except json.JSONDecodeError:
                    break
                yield value
                at = between(text, end).end()  # type: ignore[union-attr]
            self._at = at
            if self.next() == "]":
                break
            value = self.value()
            if isinstance(value, dict):
                yield value
            if self.next() == ",":
                self.take(",")
        self.take("]")

    def _more(self) -> bool:
        """Read on; whether there was more."""
        chunk = self._unpacked.read(_CHUNK)
        self._bytes += len(chunk)
        on_disk = self._raw.tell()
        self._advance(on_disk - self._done)
        self._done = on_disk
        if self._bytes > _UNSUSPICIOUS and self._bytes > _MOST_EXPANSION * on_disk:
            raise ValueError(f"it unpacks to over {_MOST_EXPANSION} times its size: not a trace")
        self._text = self._text[self._at :] + self._decode(chunk, final=not chunk)
        self._at = 0
        return bool(chunk)
