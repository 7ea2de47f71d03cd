"""The buffer between a thread that records and the writer: fixed-size packed records in a ring.

Each thread owns a ring. The thread that owns it only writes; the writer thread only reads. No
lock is needed: the ring's `head` grows after the record is complete, and a reader that was
overtaken discards what was overwritten under it and counts it as dropped (oldest first). This
rests on the interpreter lock: on a free-threaded build the recorder refuses to start.

The owner goes round in laps, each an object that knows the byte at which the next record begins:
that costs a comparison per record where a number that only grows costs a mask and a product.

A record has two parts. Every event has the first; only operations (communication) have the
second, which is packed once for all events of an operation and then copied as it is.
"""

from __future__ import annotations

import struct
import threading
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

NONE: Final = -1
"""Stands for null in a packed record: no column has negative values of its own."""

RECORD_DTYPE: Final = np.dtype(
    {
        "names": [
            *("start", "duration", "step", "lane", "kind", "is_operation"),
            *("name", "stage", "microbatch", "group", "seq", "bytes", "count"),
            *("correlation", "flops", "peer", "dtype"),
        ],
        "formats": [
            *("<i8", "<i8", "<i4", "<i2", "<i1", "<i1"),
            *("<i4", "<i4", "<i4", "<i4", "<i8", "<i8", "<i8"),
            *("<i8", "<i8", "<i4", "<i4"),
        ],
        "offsets": [0, 8, 16, 20, 22, 23, 24, 28, 32, 36, 40, 48, 56, 64, 72, 80, 84],
        "itemsize": 88,
    }
)
RECORD_BYTES: Final = RECORD_DTYPE.itemsize

pack_event: Final = struct.Struct("<qqi2xbxiii").pack_into
"""(buffer, offset, start, duration, step, kind, name, stage, microbatch): no lane, which is the
ring's, and no operation, which is a zero like all that is left out (x)."""

pack_operation_event: Final = struct.Struct("<qqi2xbb64s").pack_into
"""(buffer, offset, start, duration, step, kind, 1, operation)"""

pack_operation: Final = struct.Struct("<iiiiqqqqqii").pack
"""(name, stage, microbatch, group, seq, bytes, count, correlation, flops, peer, dtype), what the
events of one operation have in common; `NONE` where there is nothing to say."""

OPERATION_DTYPE: Final = np.dtype(
    {
        "names": [
            *("name", "stage", "microbatch", "group", "seq", "bytes", "count"),
            *("correlation", "flops", "peer", "dtype"),
        ],
        "formats": ["<i4", "<i4", "<i4", "<i4", "<i8", "<i8", "<i8", "<i8", "<i8", "<i4", "<i4"],
        "offsets": [0, 4, 8, 12, 16, 24, 32, 40, 48, 56, 60],
        "itemsize": 64,
    }
)
"""The same for numpy."""

Operation: TypeAlias = bytes
"""What `pack_operation` made."""

RING_CAPACITY: Final = 1 << 16
"""Records per thread between two flushes: 65,536 events, 5.8 MB."""

OF_OPERATIONS: Final = ("group", "seq", "bytes", "count", "correlation", "flops", "peer", "dtype")
"""Fields of the second part, of which plain events have none."""

NEIGHBOURS: Final = (
    ("start", "duration"),
    ("step",),
    ("name", "stage", "microbatch"),
    ("group",),
    ("seq", "bytes", "count", "correlation", "flops"),
    ("peer", "dtype"),
)
"""Fields of 4 or 8 bytes that lie side by side in a record and all are of one size and part: all
but `lane`, `kind` and `is_operation`."""

_CHUNK = 4096
"""Records copied at once while draining: about 350 kB, some tens of microseconds under the
interpreter lock, so that the trainer is never held up for longer."""


class Lap:
    """Once round a ring: the next record begins `at` this byte of `data`, if it is not the `end`.

    `before` is the number of records before this lap.
    """

    __slots__ = ("at", "before", "data", "end")

    def __init__(self, data: bytearray, before: int) -> None:
        self.data = data
        self.before = before
        self.end = len(data)
        self.at = 0


class Ring:
    """The records of one thread: written by it alone, read by the writer thread alone."""

    __slots__ = ("capacity", "data", "dropped", "lane", "lap", "mask", "owner", "tail")

    def __init__(self, capacity: int, lane: int) -> None:
        if capacity & (capacity - 1):
            raise ValueError(f"ring capacity {capacity} is not a power of two")
        self.capacity = capacity
        self.mask = capacity - 1
        self.data = bytearray(capacity * RECORD_BYTES)
        self.lane = lane
        self.owner = threading.current_thread()
        self.lap = Lap(self.data, 0)
        self.tail = 0
        self.dropped = 0

    @property
    def head(self) -> int:
        """Records that are complete so far, those that were overwritten included.

        Right at any instant: the next lap begins with as many as the last one ended with.
        """
        lap = self.lap
        return lap.before + lap.at // RECORD_BYTES

    def next_lap(self) -> Lap:
        """Begin at the first slot again, where the last lap is at its end."""
        self.lap = Lap(self.data, self.lap.before + self.capacity)
        return self.lap

    def drain(self) -> list[npt.NDArray[np.void]]:
        """Take what is complete, as arrays of `RECORD_DTYPE`; count what was overwritten."""
        taken: list[npt.NDArray[np.void]] = []
        head = self.head
        while self.tail < head:
            self._skip_overwritten()
            begin = self.tail & self.mask
            length = min(head - self.tail, self.capacity - begin, _CHUNK)
            if length <= 0:
                break
            copied = self.data[begin * RECORD_BYTES : (begin + length) * RECORD_BYTES]
            overtaken = self._overwritten()
            records = np.frombuffer(copied, dtype=RECORD_DTYPE)
            if overtaken > 0:
                lost = min(overtaken, length)
                self.dropped += lost
                records = records[lost:]
            self.tail += length
            if len(records):
                records["lane"] = self.lane
                _clear_what_is_not_there(records)
                taken.append(records)
        return taken

    def _skip_overwritten(self) -> None:
        behind = self._overwritten()
        if behind > 0:
            self.dropped += behind
            self.tail += behind

    def _overwritten(self) -> int:
        """How many records from `tail` on may be gone (0 or less: none).

        One slot less than the capacity counts as safe: the next record may be in its slot
        already while `head` does not tell so yet.
        """
        return self.head - (self.capacity - 1) - self.tail


def _clear_what_is_not_there(records: npt.NDArray[np.void]) -> None:
    """The second part of a plain event holds what an older record left in that slot."""
    plain = np.flatnonzero(records["is_operation"] == 0)
    for field in OF_OPERATIONS:
        records[field][plain] = NONE
