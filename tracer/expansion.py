"""How much memory an Arrow stream would take, read from its own claims before anything is unpacked.

A compressed buffer says how long it is when unpacked, and Arrow believes it: a file of a kilobyte
can ask for a terabyte. So the messages are walked first, and the stream is cut before the one
that goes too far. Layout: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_ALLOWED_BYTES: Final = 64 << 20
_ALLOWED_RATIO: Final = 200
"""The most regular events that a program can record, all alike and 1,024 ns apart, shrink to a
fiftieth; real ones to a twelfth."""

_CONTINUATION: Final = 0xFFFF_FFFF
_ALIGNMENT: Final = 8
_DICTIONARY: Final = 2
_BATCH: Final = 3


@dataclass(kw_only=True, slots=True, frozen=True)
class Expansion:
    """`readable` bytes of the stream unpack to `unpacked` bytes or less; what comes after would
    take more than is `allowed`. None of it is cut off where `readable` is the whole length.
    """

    readable: int
    unpacked: int
    allowed: int


def expansion(stream: memoryview) -> Expansion:
    """How far a stream can be read before it takes more memory than a recording of its size."""
    allowed = _ALLOWED_BYTES + _ALLOWED_RATIO * len(stream)
    dictionaries: dict[int, int] = {}
    total = 0
    try:
        for message in _messages(stream):
            total += _unpacked(stream, message, dictionaries)
            if total > allowed:
                return Expansion(readable=message.begin, unpacked=total, allowed=allowed)
    except (struct.error, IndexError):
        pass  # a message that makes no sense: Arrow stops there too, and says why
    return Expansion(readable=len(stream), unpacked=total, allowed=allowed)


@dataclass(kw_only=True, slots=True, frozen=True)
class _Message:
    """A message that begins at byte `begin`; its body begins at `body`."""

    begin: int
    table: _Table
    body: int


@dataclass(kw_only=True, slots=True, frozen=True)
class _Table:
    """A FlatBuffers table at `at` of the stream, whose fields lie where its vtable says."""

    stream: memoryview
    at: int

    def place(self, field: int) -> int | None:
        """Where a field lies; None where the table leaves it at its default."""
        vtable = self.at - _read("<i", self.stream, self.at)
        entry = 4 + 2 * field
        if entry + 2 > _read("<H", self.stream, vtable):
            return None
        offset = _read("<H", self.stream, vtable + entry)
        return self.at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """A scalar field; 0 by default."""
        place = self.place(field)
        return 0 if place is None else _read(form, self.stream, place)

    def follow(self, field: int) -> int | None:
        """Where the table or vector that a field points to begins."""
        place = self.place(field)
        return None if place is None else place + _read("<I", self.stream, place)


def _messages(stream: memoryview) -> Iterator[_Message]:
    at = 0
    while at + 8 <= len(stream):
        begin, length = at, _read("<I", stream, at)
        at += 4
        if length == _CONTINUATION:
            length = _read("<I", stream, at)
            at += 4
        if length == 0:
            return
        table = _Table(stream=stream, at=at + _read("<I", stream, at))
        body = at + length
        yield _Message(begin=begin, table=table, body=body)
        size = table.number(3, "<q")
        at = body + size + -size % _ALIGNMENT
        if at <= begin:
            return


def _unpacked(stream: memoryview, message: _Message, dictionaries: dict[int, int]) -> int:
    """The bytes that reading a message allocates. A dictionary that grows is put together anew."""
    kind, header = message.table.number(1, "<B"), message.table.follow(2)
    if header is None:
        return 0
    if kind == _BATCH:
        return _batch(stream, _Table(stream=stream, at=header), message.body)
    if kind != _DICTIONARY:
        return 0
    dictionary = _Table(stream=stream, at=header)
    number, data = dictionary.number(0, "<q"), dictionary.follow(1)
    size = 0 if data is None else _batch(stream, _Table(stream=stream, at=data), message.body)
    grows = dictionary.number(2, "<B")
    dictionaries[number] = size + (dictionaries.get(number, 0) if grows else 0)
    return dictionaries[number]


def _batch(stream: memoryview, batch: _Table, body: int) -> int:
    buffers = batch.follow(2)
    if buffers is None:
        return 0
    count = _read("<I", stream, buffers)
    places = stream[buffers + 4 : buffers + 4 + 16 * count]
    compressed = batch.place(3) is not None
    total = 0
    for offset, length in struct.iter_unpack("<qq", places):
        claim = length
        if compressed and length >= 8:
            claim = max(_read("<q", stream, body + offset), length - 8)
        total += max(claim, 0)
    return total


def _read(form: str, stream: memoryview, at: int) -> int:
    if at < 0:
        raise IndexError(at)
    value: int = struct.unpack_from(form, stream, at)[0]
    return value
