"""Arrow IPC streams on disk: append batches so that a kill loses only what was not written yet."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import ipc

from tracer.errors import DamagedTrace, NewerFormat, NotATrace
from tracer.expansion import expansion
from tracer.rows import possible_rows, without_null_words
from tracer.schema import FORMAT_VERSION, MAX_RANK, SCHEMAS, file_metadata
from tracer.stream_messages import with_batches
from tracer.text import plain_text

_CODEC: Final = pa.Codec("zstd", compression_level=6)
"""The lowest level that finds the pattern in numbers that count up: 8 bytes per event, where lower
ones take 10 and lz4 takes 17, for 0.2 µs more on the writer thread (docs/decisions.md)."""


_ONE_THREAD: Final = ipc.IpcReadOptions(use_threads=False)
"""Batches are small: handing each column to another thread takes longer than reading it, on a busy
machine a hundred times as long."""
_NUMBER: Final = re.compile("[0-9]{1,9}")


class StreamWriter:
    """Appends record batches to one `.arrows` file; each `write` reaches the operating system.

    Arrow opens the file itself. A batch is some sixty pieces, and into a file of Python's each of
    them would wait for the interpreter lock, twice. There is no buffer, since a forked child would
    write its copy of it.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        content: str,
        *,
        run_id: str,
        rank: int,
        codec: pa.Codec = _CODEC,
    ) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - to cut off half a batch
        self._sink = pa.OSFile(os.fsencode(path), "ab")
        # Arrow's would stay open in what a training becomes that replaces itself (os.execv).
        os.set_inheritable(self._sink.fileno(), False)
        self._without_schema = False
        self._stream = ipc.new_stream(
            self._sink,
            schema.with_metadata(file_metadata(content, run_id=run_id, rank=rank)),
            options=ipc.IpcWriteOptions(
                compression=codec, use_threads=False, emit_dictionary_deltas=True
            ),
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Append one batch.

        Raises:
            OSError: the disk is full or gone; what was written before stays readable.
        """
        whole = self._file.seek(0, os.SEEK_END)
        try:
            self._stream.write_batch(batch)
        except BaseException:
            self._without_schema = whole == 0
            with contextlib.suppress(OSError):
                self._file.truncate(whole)
            raise

    def close(self) -> None:
        """Write the end-of-stream mark and close the file."""
        try:
            if not self._without_schema:
                self._stream.close()
        finally:
            try:
                self._sink.close()
            finally:
                self._file.close()


Keep = Callable[[pa.Table], pa.Table]
"""Of some rows, in the order of the file, those that are kept."""

_AT_ONCE: Final = 1 << 16
"""Rows that are in memory together where not all are kept: some 8 MB."""


class StreamContent:
    """What could be read of a stream: its metadata, its rows, and whether it ends well.

    `problem` is None for a stream that ends with its mark or between two batches (a rank that
    was killed), else one line that says where the file is damaged; the batches before the
    damage are all there. `left_out` is None, or one line about rows that cannot be and are not
    in `table`. `bytes_read` is how long the file was when it was read: a rank that still records
    makes it longer.
    """

    def __init__(self, path: Path, rows: _Rows, *, damage: str | None, bytes_read: int) -> None:
        self.path = path
        self.bytes_read = bytes_read
        self.schema = rows.schema
        self.problem = f"{path}: {damage}" if damage else None
        self.table = rows.table()
        said = "; ".join(f"{why} ({count:,})" for why, count in rows.reasons.most_common())
        self.left_out = (
            f"{path}: {rows.left_out:,} of {rows.count:,} rows cannot be: {said}"
            if rows.left_out
            else None
        )

    @property
    def run_id(self) -> str:
        """The run that the file belongs to."""
        return plain_text(_metadata(self.schema, "run_id"))

    @property
    def rank(self) -> int:
        """The rank that wrote the file."""
        return int(_metadata(self.schema, "rank"))


class _Rows:
    """The rows of a stream as they are read: how many, why some cannot be, and what is kept.
    `let_go` is called when some were read: the pages of the file are not needed for a while.
    """

    def __init__(self, schema: pa.Schema, keep: Keep, let_go: Callable[[], None]) -> None:
        self.schema = schema
        self.count = 0
        self.left_out = 0
        self.reasons: Counter[str] = Counter()
        self._keep = keep
        self._let_go = let_go
        self._kept: list[pa.Table] = []
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """The next rows."""
        self.count += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= _AT_ONCE:
            self._keep_some()

    def table(self) -> pa.Table:
        """All that is kept."""
        if self._waiting or not self._kept:
            self._keep_some()
        return pa.concat_tables(self._kept).unify_dictionaries()

    def _keep_some(self) -> None:
        found = pa.Table.from_batches(self._waiting, schema=self.schema).unify_dictionaries()
        self._waiting, self._waiting_rows = [], 0
        possible, reasons = possible_rows(found)
        self.left_out += found.num_rows - possible.num_rows
        self.reasons += reasons
        self._kept.append(self._keep(possible))
        self._let_go()


def read_stream(
    path: Path,
    content: str,
    *,
    columns: Sequence[str] | None = None,
    keep: Keep = lambda rows: rows,
    batches: Collection[int] | None = None,
) -> StreamContent:
    """Read all that is readable of one `.arrows` file, memory-mapped; or only these columns, or
    record batches by their numbers, which takes less time. What is wrong with the rest is then not
    found. Of these rows there are in memory what `keep` makes of them, and `_AT_ONCE` besides; the
    chunks that `keep` is given are the batches. What it raises comes through.

    Raises:
        FileNotFoundError: there is no such file.
        NotATrace: the file is no Arrow stream, or not one of ours with this `content`.
        NewerFormat: it was written by a newer version of the format.
        DamagedTrace: it is cut off before its first schema message ends, or its columns are not
            those of the format.
    """
    if path.stat().st_size == 0:
        raise DamagedTrace(f"{path}: empty file (the rank died before its first flush)")
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        source = mapped = pa.py_buffer(mapping)
        try:
            if batches is not None:
                source = pa.py_buffer(with_batches(memoryview(mapped), batches))
            size = source.size
            limit = expansion(memoryview(source))
            source = source.slice(0, limit.readable)
            reader = ipc.open_stream(source, options=_ONE_THREAD)
        except (pa.ArrowException, OSError, ValueError, struct.error, IndexError) as error:
            raise NotATrace(f"{path}: not an Arrow stream ({_first_line(error)})") from error
        _check_schema(path, reader.schema, content)
        wanted = SCHEMAS[content].with_metadata(reader.schema.metadata)
        if columns is not None:
            places = [reader.schema.get_field_index(name) for name in columns]
            options = ipc.IpcReadOptions(use_threads=False, included_fields=places)
            reader = ipc.open_stream(source, options=options)
            wanted = pa.schema([wanted.field(name) for name in columns], wanted.metadata)
        rows = _Rows(wanted, keep, lambda: _let_go(mapping))
        damage = _read_batches(reader, rows)
        if damage is None and limit.readable < size:
            damage = (
                f"damaged after {rows.count:,} rows: claims {limit.unpacked / 1e9:,.1f} GB of "
                f"memory, a file of {size:,} bytes has {limit.allowed / 1e9:,.1f} at most"
            )
        return StreamContent(path, rows, damage=damage, bytes_read=mapped.size)


def _let_go(mapping: mmap.mmap) -> None:
    """Of the pages that were read; they come again from the file. Not every system has that, and
    none does it with pages that are locked.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError):
            mapping.madvise(mmap.MADV_DONTNEED)


def _read_batches(reader: ipc.RecordBatchStreamReader, rows: _Rows) -> str | None:
    """Add the good batches to `rows`; what stopped it, if that was not the end of the stream."""
    while True:
        try:
            batch = reader.read_next_batch()
            _validate(batch)
            good = without_null_words(batch, rows.schema)
        except StopIteration:
            return None
        except (pa.ArrowException, OSError, ValueError) as error:
            return f"cut off or damaged after {rows.count:,} rows: {_first_line(error)}"
        rows.add(good)


def _validate(batch: pa.RecordBatch) -> None:
    """Check every index and every word: a damaged one would crash whoever reads it later."""
    batch.validate(full=True)
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray):
            column.dictionary.validate(full=True)


def _check_schema(path: Path, schema: pa.Schema, content: str) -> None:
    found = _metadata(schema, "content")
    if found != content:
        said = f"holds {plain_text(found)!r}" if found else "was not written by Rankscope"
        raise NotATrace(f"{path}: {said}, wanted an Arrow stream with {content!r}")
    version = _metadata(schema, "format_version")
    if not _NUMBER.fullmatch(version) or int(version) > FORMAT_VERSION:
        raise NewerFormat(
            f"{path}: format version {plain_text(version)}, this Rankscope reads up to "
            f"{FORMAT_VERSION}; upgrade with `pip install -U rankscope`"
        )
    rank = _metadata(schema, "rank")
    if not _NUMBER.fullmatch(rank) or int(rank) > MAX_RANK:
        raise DamagedTrace(f"{path}: rank is {plain_text(rank)!r}, wanted 0 to {MAX_RANK:,}")
    _check_columns(path, schema, SCHEMAS[content])


def _check_columns(path: Path, schema: pa.Schema, wanted: pa.Schema) -> None:
    try:
        found = [(field.name, field.type) for field in schema]
    except UnicodeDecodeError as error:
        raise DamagedTrace(f"{path}: a column's name is no text ({error.reason})") from error
    for column in wanted:
        types = [type_ for name, type_ in found if name == column.name]
        if not types:
            raise DamagedTrace(f"{path}: column {column.name!r} is missing")
        if types != [column.type]:
            raise DamagedTrace(f"{path}: column {column.name!r} is not one {column.type}")


def _metadata(schema: pa.Schema, key: str) -> str:
    raw: bytes = (schema.metadata or {}).get(f"rankscope.{key}".encode(), b"")
    return raw.decode(errors="replace")


def _first_line(error: BaseException) -> str:
    return plain_text(next(iter(str(error).splitlines()), type(error).__name__))
