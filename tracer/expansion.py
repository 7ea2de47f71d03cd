"""How much memory an Arrow stream would take, read from its own claims before anything is unpacked.

A compressed buffer says how long it is when unpacked, and Arrow believes it: a file of a kilobyte
can ask for a terabyte. So the messages are walked first, and the stream is cut before the one
that goes too far. Layout: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from tracer.stream_messages import BATCH, DICTIONARY, Message, Table, messages, read_number

_ALLOWED_BYTES: Final = 64 << 20
_ALLOWED_RATIO: Final = 200
"""The most regular events that a program can record, all alike and 1,024 ns apart, shrink to a
fiftieth; real ones to a twelfth."""


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
        for message in messages(stream):
            total += _unpacked(stream, message, dictionaries)
            if total > allowed:
                return Expansion(readable=message.begin, unpacked=total, allowed=allowed)
    except (struct.error, IndexError):
        pass  # a message that makes no sense: Arrow stops there too, and says why
    return Expansion(readable=len(stream), unpacked=total, allowed=allowed)


def _unpacked(stream: memoryview, message: Message, dictionaries: dict[int, int]) -> int:
    """The bytes that reading a message allocates. A dictionary that grows is put together anew."""
    kind, header = message.kind, message.table.follow(2)
    if header is None:
        return 0
    if kind == BATCH:
        return _batch(stream, Table(stream=stream, at=header), message.body)
    if kind != DICTIONARY:
        return 0
    dictionary = Table(stream=stream, at=header)
    number, data = dictionary.number(0, "<q"), dictionary.follow(1)
    size = 0 if data is None else _batch(stream, Table(stream=stream, at=data), message.body)
    grows = dictionary.number(2, "<B")
    dictionaries[number] = size + (dictionaries.get(number, 0) if grows else 0)
    return dictionaries[number]


def _batch(stream: memoryview, batch: Table, body: int) -> int:
    buffers = batch.follow(2)
    if buffers is None:
        return 0
    count = read_number("<I", stream, buffers)
    places = stream[buffers + 4 : buffers + 4 + 16 * count]
    compressed = batch.place(3) is not None
    total = 0
    for offset, length in struct.iter_unpack("<qq", places):
        claim = length
        if compressed and length >= 8:
            claim = max(read_number("<q", stream, body + offset), length - 8)
        total += max(claim, 0)
    return total
