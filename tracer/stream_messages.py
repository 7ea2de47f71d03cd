"""The messages of an Arrow stream, and the stream without some of its record batches.

Layout: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

DICTIONARY: Final = 2
BATCH: Final = 3
"""Kinds of messages."""

_CONTINUATION: Final = 0xFFFF_FFFF
_ALIGNMENT: Final = 8


@dataclass(kw_only=True, slots=True, frozen=True)
class Message:
    """A message that begins at byte `begin`; its body begins at `body`, the next one at `end`."""

    begin: int
    table: Table
    body: int
    end: int

    @property
    def kind(self) -> int:
        """`BATCH`, `DICTIONARY`, or another one."""
        return self.table.number(1, "<B")


@dataclass(kw_only=True, slots=True, frozen=True)
class Table:
    """A FlatBuffers table at `at` of the stream, whose fields lie where its vtable says."""

    stream: memoryview
    at: int

    def place(self, field: int) -> int | None:
        """Where a field lies; None where the table leaves it at its default."""
        vtable = self.at - read_number("<i", self.stream, self.at)
        entry = 4 + 2 * field
        if entry + 2 > read_number("<H", self.stream, vtable):
            return None
        offset = read_number("<H", self.stream, vtable + entry)
        return self.at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """A scalar field; 0 by default."""
        place = self.place(field)
        return 0 if place is None else read_number(form, self.stream, place)

    def follow(self, field: int) -> int | None:
        """Where the table or vector that a field points to begins."""
        place = self.place(field)
        return None if place is None else place + read_number("<I", self.stream, place)


def messages(stream: memoryview) -> Iterator[Message]:
    """All of them, in their order.

    Raises:
        struct.error, IndexError: one makes no sense.
    """
    at = 0
    while at + 8 <= len(stream):
        begin, length = at, read_number("<I", stream, at)
        at += 4
        if length == _CONTINUATION:
            length = read_number("<I", stream, at)
            at += 4
        if length == 0:
            return
        table = Table(stream=stream, at=at + read_number("<I", stream, at))
        body = at + length
        size = table.number(3, "<q")
        at = body + size + -size % _ALIGNMENT
        yield Message(begin=begin, table=table, body=body, end=at)
        if at <= begin:
            return


def with_batches(stream: memoryview, chosen: Collection[int]) -> bytes:
    """The stream with only those of its record batches that have these numbers, and all words.

    Raises:
        struct.error, IndexError: it has a message that makes no sense.
    """
    parts, number, chosen = [], 0, frozenset(chosen)
    for message in messages(stream):
        is_batch = message.kind == BATCH
        if not is_batch or number in chosen:
            parts.append(stream[message.begin : message.end])
        number += is_batch
    return b"".join(parts)


def read_number(form: str, stream: memoryview, at: int) -> int:
    """The number at byte `at`, as `struct` has it.

    Raises:
        struct.error, IndexError: it lies outside.
    """
    if at < 0:
        raise IndexError(at)
    value: int = struct.unpack_from(form, stream, at)[0]
    return value
