"""A file of named arrays that are read memory-mapped, and a JSON head that is checked.

64 bytes    magic, version, CRC-32 of the head, place and length of the head
arrays      little-endian, each at a multiple of 64 bytes
head        JSON: what the writer says, and per array its type, place and shape
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MAGIC: Final = b"rankscope arrays"
_HEADER: Final = struct.Struct("<16sIIQQ")
_ALIGNMENT: Final = 64
_MOST_HEAD: Final = 1 << 28
"""Bytes; lanes and names of the largest run are a fraction of that."""


class BadArrayFile(ValueError):
    """The file is damaged, of another version, or not of this kind."""


class ArrayWriter:
    """Makes arrays in a file; without `finish` it is not readable."""

    def __init__(self, path: Path, version: int) -> None:
        self._path = path
        self._version = version
        self._size = _ALIGNMENT
        self._places: dict[str, tuple[str, int, tuple[int, ...]]] = {}
        self._arrays: list[np.memmap[Any, Any]] = []

    def allocate(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """An array of zeros in the file.

        Raises:
            OSError: the disk is full.
        """
        kind = np.dtype(dtype).newbyteorder("<")
        size = math.prod(shape) * kind.itemsize
        self._places[name] = (kind.str, self._size, shape)
        if size == 0:
            return np.zeros(shape, kind)
        with self._path.open("r+b") as file:
            # a file with holes would end the process by a signal when the disk is full
            os.posix_fallocate(file.fileno(), self._size, size)
        array = np.memmap(self._path, kind, "r+", self._size, shape)
        self._arrays.append(array)
        self._size += size + -size % _ALIGNMENT
        return array

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """Write a copy of the array."""
        self.allocate(name, array.dtype, array.shape)[...] = array

    def finish(self, head: dict[str, Any]) -> None:
        """Write the head, which must be what JSON can say, and all arrays to the disk."""
        for array in self._arrays:
            array.flush()
        text = json.dumps({"said": head, "arrays": self._places}).encode()
        with self._path.open("r+b") as file:
            file.seek(self._size)
            file.write(text)
            file.seek(0)
            crc = zlib.crc32(text)
            file.write(_HEADER.pack(_MAGIC, self._version, crc, self._size, len(text)))
            file.flush()
            os.fsync(file.fileno())


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
