"""A file of named arrays that are read memory-mapped, and a JSON head that is checked.

64 bytes    magic, version, CRC-32 of the head, place and length of the head
arrays      little-endian, each at a multiple of 64 bytes
head        JSON: what the writer says, and per array its type, place and shape
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

_MAGIC: Final = b"rankscope arrays"
_HEADER: Final = struct.Struct("<16sIIQQ")
_ALIGNMENT: Final = 64
_MOST_HEAD: Final = 1 << 28
"""Bytes; lanes and names of the largest run are a fraction of that."""


class BadArrayFile(ValueError):
    """The file is damaged, of another version, or not of this kind."""


class Array(Protocol):
    """What is filled piece by piece: an array in memory, or one in a file."""

    def __getitem__(self, at: slice, /) -> NDArray[Any]:
        """A stretch of it."""

    def __setitem__(self, at: slice | int, values: NDArray[Any], /) -> None:
        """Fill a stretch of it."""


class Store(Protocol):
    """Where named arrays are made."""

    def allocate(self, name: str, dtype: Any, shape: tuple[int, ...]) -> Array:
        """An array of zeros."""

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """An array that is there already."""

    def temporary(self) -> IO[bytes]:
        """A file without a name, for what is to be out of memory meanwhile."""


class Scratch:
    """Records in a temporary file, added at its end and read in slices."""

    def __init__(self, file: IO[bytes], kind: Any) -> None:
        self._file = file
        self.kind = np.dtype(kind)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, records: NDArray[Any]) -> None:
        """Some more of them."""
        self._file.seek(self._count * self.kind.itemsize)
        self._file.write(np.ascontiguousarray(records, self.kind).view(np.uint8).data)
        self._count += len(records)

    def __getitem__(self, at: slice) -> NDArray[Any]:
        low, high, _ = at.indices(self._count)
        self._file.seek(low * self.kind.itemsize)
        content = self._file.read(max(high - low, 0) * self.kind.itemsize)
        return np.frombuffer(content, self.kind)


class MemoryStore:
    """Arrays in memory, by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}

    def allocate(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """An array of zeros."""
        self.arrays[name] = np.zeros(shape, dtype)
        return self.arrays[name]

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """An array that is there already."""
        self.arrays[name] = array

    def temporary(self) -> IO[bytes]:
        """In memory as well: there may be no place for files."""
        return io.BytesIO()


class FileArray:
    """An array in a file, read and written in slices of its first axis. Nothing of it stays in
    memory, as it would with a memory map.
    """

    def __init__(self, file: int, kind: np.dtype[Any], offset: int, shape: tuple[int, ...]) -> None:
        self._file = file
        self._kind = kind
        self._offset = offset
        self.shape = shape
        self._inner = math.prod(shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, at: slice | int, values: NDArray[Any]) -> None:
        low, high = self._limits(at)
        content = np.ascontiguousarray(values, self._kind).reshape(-1)
        if len(content) != (high - low) * self._inner:
            raise ValueError(f"{len(content):,} values do not fit into {low:,} to {high:,}")
        rest, place = content.view(np.uint8).data, self._place(low)
        while rest:
            written = os.pwrite(self._file, rest, place)
            rest, place = rest[written:], place + written

    def __getitem__(self, at: slice) -> NDArray[Any]:
        low, high = self._limits(at)
        found = np.empty(((high - low) * self._inner,), self._kind)
        rest, place = found.view(np.uint8).data, self._place(low)
        while rest:
            read = os.preadv(self._file, [rest], place)
            if not read:
                raise OSError("the file has become shorter while it was written")
            rest, place = rest[read:], place + read
        return found.reshape(high - low, *self.shape[1:])

    def _limits(self, at: slice | int) -> tuple[int, int]:
        if isinstance(at, slice):
            low, high, _ = at.indices(len(self))
            return low, max(low, high)
        return at, at + 1

    def _place(self, at: int) -> int:
        return self._offset + at * self._inner * self._kind.itemsize


class ArrayWriter:
    """Makes arrays in a file, which must be there; without `finish` it is not readable."""

    def __init__(self, path: Path, version: int) -> None:
        self._file = path.open("r+b", buffering=0)
        self._folder = path.parent
        self._version = version
        self._size = _ALIGNMENT
        self._places: dict[str, tuple[str, int, tuple[int, ...]]] = {}

    def allocate(self, name: str, dtype: Any, shape: tuple[int, ...]) -> FileArray:
        """An array of zeros in the file.

        Raises:
            OSError: the disk is full.
        """
        kind = np.dtype(dtype).newbyteorder("<")
        size = math.prod(shape) * kind.itemsize
        self._places[name] = (kind.str, self._size, shape)
        array = FileArray(self._file.fileno(), kind, self._size, shape)
        if size:  # a disk that is full says so now, not when half of the work is done
            os.posix_fallocate(self._file.fileno(), self._size, size)
        self._size += size + -size % _ALIGNMENT
        return array

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """Write a copy of the array."""
        self.allocate(name, array.dtype, array.shape)[:] = array

    def temporary(self) -> IO[bytes]:
        """Beside the file, where there is room for what is as large."""
        return tempfile.TemporaryFile(dir=self._folder)

    def finish(self, head: dict[str, Any]) -> None:
        """Write the head, which must be what JSON can say, and all arrays to the disk."""
        text = json.dumps({"said": head, "arrays": self._places}).encode()
        header = _HEADER.pack(_MAGIC, self._version, zlib.crc32(text), self._size, len(text))
        FileArray(self._file.fileno(), np.dtype(np.uint8), self._size, (len(text),))[:] = (
            np.frombuffer(text, np.uint8)
        )
        os.pwrite(self._file.fileno(), header, 0)
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def read_arrays(path: Path, version: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The head, and the arrays, of which nothing is read yet.

    Raises:
        OSError: there is no such file.
        BadArrayFile: it is not as `ArrayWriter` left it, or of another version.
    """
    size = path.stat().st_size
    if size < _ALIGNMENT:
        raise BadArrayFile(f"{path}: {size} bytes, too few for a header")
    content = np.asarray(np.memmap(path, np.uint8, "r"))
    magic, found, crc, place, length = _HEADER.unpack(content[: _HEADER.size].tobytes())
    if magic != _MAGIC or found != version:
        raise BadArrayFile(f"{path}: of another kind or version")
    if length > _MOST_HEAD or place + length != len(content):
        raise BadArrayFile(f"{path}: {len(content):,} bytes, wanted {place + length:,}")
    text = content[place:].tobytes()
    if zlib.crc32(text) != crc:
        raise BadArrayFile(f"{path}: the head's checksum is wrong")
    head = json.loads(text)
    arrays = {name: _view(content, place, *where) for name, where in dict(head["arrays"]).items()}
    return head["said"], arrays


def _view(
    content: NDArray[np.uint8], end: int, kind: str, offset: int, shape: list[int]
) -> NDArray[Any]:
    size = math.prod(shape) * np.dtype(kind).itemsize
    if offset < _ALIGNMENT or offset + size > end:
        raise BadArrayFile(f"an array of {size:,} bytes at {offset:,} is not within {end:,} bytes")
    return content[offset : offset + size].view(kind).reshape(shape)
