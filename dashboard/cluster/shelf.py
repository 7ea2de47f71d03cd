"""Results that wait for those who need them: the large ones on disk.

A task of communication needs what all ranks of a group tell. Until the last of them is read, the
others would fill the memory; and an answer with rows for each rank and step is asked for now and
then, but the replay in between needs the room. So what is beyond `kept_bytes` lies in a file that
nobody else sees, and that is gone with the process, however that ends.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Hashable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, fields, is_dataclass
from io import FileIO
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from tracer.errors import TraceError

KEPT_BYTES: Final = 64 << 20
_SMALL: Final = 1 << 12
"""Bytes that are not worth a place in a file."""
_OF_A_COLUMN: Final = 512
"""Bytes that Arrow takes for a column beside its values: a table of a few rows is mostly these."""
_CODEC: Final = "lz4"


@dataclass(slots=True, frozen=True)
class _Place:
    """Where a result lies in the file."""

    begin: int
    length: int
    unpacked: int


class Shelf(MutableMapping[Hashable, Any]):
    """Results by name. `held`: bytes of them in memory; `written`: how many went to the file.

    may_hold_more: where there is no place for the file, all stay in memory; else that is an error.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES, *, may_hold_more: bool = False) -> None:
        self._kept_bytes = kept_bytes
        self._may_hold_more = may_hold_more
        self._results: dict[Hashable, Any] = {}
        self._sizes: dict[Hashable, int] = {}
        self._file: FileIO | None = None
        self.held = 0
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __setitem__(self, name: Hashable, result: Any) -> None:
        if name in self:
            del self[name]
        size = bytes_of(result)
        if size > _SMALL and self.held + size > self._kept_bytes:
            try:
                self._results[name] = self._put_away(result)
            except TraceError:
                if not self._may_hold_more:
                    raise
            else:
                self.written += 1
                return
        self._results[name], self._sizes[name] = result, size
        self.held += size

    def __getitem__(self, name: Hashable) -> Any:
        found = self._results[name]
        return self._read(found) if isinstance(found, _Place) else found

    def __contains__(self, name: object) -> bool:
        return name in self._results

    def __delitem__(self, name: Hashable) -> None:
        del self._results[name]
        self.held -= self._sizes.pop(name, 0)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def _put_away(self, result: Any) -> _Place:
        data = pickle.dumps(result, protocol=5)
        packed = pa.compress(data, codec=_CODEC, asbytes=True)
        try:
            if self._file is None:
                # Of a buffer, what a full disk did not take would be tried again by whoever reads.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with it
            begin = self._file.seek(0, 2)
            left = memoryview(packed)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise TraceError(
                f"{tempfile.gettempdir()}: results cannot be kept there ({error.strerror or error})"
                "; set TMPDIR to a directory with space, or choose fewer steps with --step"
            ) from error
        return _Place(begin=begin, length=len(packed), unpacked=len(data))

    def _read(self, place: _Place) -> Any:
        assert self._file is not None
        self._file.seek(place.begin)
        packed = bytearray(place.length)
        left = memoryview(packed)
        while left:
            count = self._file.readinto(left)
            assert count, "nobody else has the file"
            left = left[count:]
        data = pa.decompress(packed, decompressed_size=place.unpacked, codec=_CODEC, asbytes=True)
        return pickle.loads(data)  # written by this process, to a file of its own


def bytes_of(result: Any) -> int:
    """Of its tables and arrays, however deep they lie in dataclasses, mappings and tuples."""
    if isinstance(result, pa.Table):
        return int(result.nbytes + _OF_A_COLUMN * result.num_columns)
    if isinstance(result, np.ndarray):
        return int(result.nbytes)
    if is_dataclass(result) and not isinstance(result, type):
        return sum(bytes_of(getattr(result, field.name)) for field in fields(result))
    if isinstance(result, Mapping):
        return sum(map(bytes_of, result.values()))
    return sum(map(bytes_of, result)) if isinstance(result, (tuple, list)) else 0
