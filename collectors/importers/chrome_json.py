"""Chrome's trace-event JSON, plain or gzip, as a stream: the file is never in memory as a whole.

Kineto, Perfetto's exporter and others write an object with `traceEvents` and facts around it;
the bare list of events is allowed too. Text comes in chunks, and Python's own JSON scanner takes
one value after the other from it; or the list of events is cut into pieces, which somebody else
parses many at a time (docs/decisions.md says why no streaming parser does).
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
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa

from collectors.importers.event_pieces import SEPARATOR, cut
from tracer.errors import DamagedTrace
from tracer.text import plain_text

_CHUNK: Final = 1 << 20
_PEEK: Final = 1 << 14
"""Bytes in which most files show what they are."""
_STRETCH: Final = 2 << 20
"""Bytes that are cut into pieces at once: some 8,000 events. More would not stay in the processor's
cache, fewer would not be worth the calls."""
_SEVERAL: Final = 1 << 12
"""Events that are given on at once where they are parsed one by one."""
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
Made = TypeVar("Made")


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
        yield from self._read(_Text.events)

    def stretches(
        self,
        of_pieces: Callable[[pa.StringArray], Made | None],
        of_events: Callable[[list[Event]], Made],
    ) -> Iterator[Made]:
        """All events, many at a time: what one of the two makes of them, in the order of the file.

        Args:
            of_pieces: gets a text for each event. It returns None if not all of them are one, each
                of them whole: then they and what follows are parsed one by one.
            of_events: gets parsed events.

        Raises:
            DamagedTrace: as `events` does.
        """
        yield from self._read(lambda text: text.stretches(of_pieces, of_events))

    def _read(self, take: Callable[[_Text], Iterator[Made]]) -> Iterator[Made]:
        try:
            with _opened(self.path) as (raw, unpacked):
                yield from self._taken(_Text(raw, unpacked, self._advance), take)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(f"gzip: {error}") from error
        except RecursionError as error:
            raise self._damaged("nested deeper than any trace") from error
        except ValueError as error:
            raise self._damaged(error) from error

    def _taken(self, text: _Text, take: Callable[[_Text], Iterator[Made]]) -> Iterator[Made]:
        if text.next() == "[":
            yield from take(text)
            return
        text.take("{")
        found = False
        while text.next() != "}":
            key = text.value()
            text.take(":")
            if key == "traceEvents" and text.next() == "[":
                found = True
                yield from take(text)
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
    """Whether the file begins as JSON and one of `words` stands in its first part; also where it
    is cut off: reading it says so, and a rank does not vanish.
    """
    return first_of(path, *words) is not None


def first_of(path: Path, *words: bytes) -> bytes | None:
    """The first of `words` that stands in the first part of the file; None if it does not begin as
    JSON, or none does.
    """
    start = bytearray()
    longest = max(map(len, words))
    with _opened(path) as (_, unpacked), contextlib.suppress(EOFError, zlib.error, OSError):
        while len(start) < _CHUNK and (more := unpacked.read1(min(_PEEK, _CHUNK - len(start)))):
            new = max(len(start) - longest, 0)  # a word may be cut by what was read before
            start += more
            places = {start.find(word, new): word for word in words}
            places.pop(-1, None)
            if places:
                return places[min(places)] if start.lstrip().startswith((b"{", b"[")) else None
    return None


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
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
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
        """The objects of the list that comes next."""
        self.take("[")
        yield from self._listed()

    def stretches(
        self,
        of_pieces: Callable[[pa.StringArray], Made | None],
        of_events: Callable[[list[Event]], Made],
    ) -> Iterator[Made]:
        """The same, many at a time (`ChromeTrace.stretches`)."""
        self.take("[")
        if self.next() == "{":
            yield of_events([self.value()])
            separator = self._separator()
            if separator is not None:
                yield from self._in_pieces(separator, of_pieces)
            elif self.next() == ",":
                self.take(",")
        events = self._listed()
        while several := list(islice(events, _SEVERAL)):
            yield of_events(several)

    def _separator(self) -> bytes | None:
        """What stands between the value before and the one that comes next, its first key
        included; the text goes on after the comma. None if nothing usual does.
        """
        found = SEPARATOR.match(self._text, self._at)
        if found is None and self._more():
            found = SEPARATOR.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.start(1) + found[1].index("{")
        return found[1].encode()

    def _in_pieces(
        self, separator: bytes, of_pieces: Callable[[pa.StringArray], Made | None]
    ) -> Iterator[Made]:
        """What is made of the objects from here on, as far as the list is cut by the separator; the
        text goes on after them, at the latest before the last.
        """
        pending, _ = self._decoder.getstate()
        before = io.BytesIO(self._text[self._at :].encode() + pending)
        self._decoder.reset()
        self._text, self._at = "", 0
        # One room for all of the file: new memory for each stretch takes a tenth longer.
        room, filled = bytearray(_STRETCH), 0
        while read := before.readinto(left := memoryview(room)[filled:]) or self._read_into(left):
            filled += read
            pieces = cut(memoryview(room)[:filled], separator)
            if pieces is not None:
                made = of_pieces(pieces.texts)
                if made is None:
                    pieces.put_together()
                    break
                yield made
                room[: filled - pieces.end] = room[pieces.end : filled]
                filled -= pieces.end
            elif filled > _LONGEST:
                break
            if filled == len(room):
                room = room.ljust(2 * filled)
        self._text = self._decoder.decode(bytes(memoryview(room)[:filled]) + before.read())

    def _listed(self) -> Iterator[Event]:
        """The objects of a list up to its end.

        The inner loop stays in what is there already, since it turns for every event.
        """
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
        chunk = self._read(_CHUNK)
        self._text = self._text[self._at :] + self._decoder.decode(chunk, final=not chunk)
        self._at = 0
        return bool(chunk)

    def _read(self, size: int) -> bytes:
        chunk: bytes = self._unpacked.read(size)
        self._note_read(len(chunk))
        return chunk

    def _read_into(self, room: memoryview) -> int:
        """How many bytes were read into it; 0 at the end of the file."""
        size: int = self._unpacked.readinto(room)
        self._note_read(size)
        return size

    def _note_read(self, size: int) -> None:
        self._bytes += size
        on_disk = self._raw.tell()
        self._advance(on_disk - self._done)
        self._done = on_disk
        if self._bytes > _UNSUSPICIOUS and self._bytes > _MOST_EXPANSION * on_disk:
            raise ValueError(f"it unpacks to over {_MOST_EXPANSION} times its size: not a trace")
