"""Small files that ask for much: each would take gigabytes if its claims were believed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import pyarrow as pa
from pyarrow import ipc

from tests.fuzz.values import stream
from tracer.schema import EVENT_SCHEMA, file_metadata

_METADATA: Final = file_metadata("events", run_id="toy", rank=0)
_ZSTD: Final = bytes.fromhex("28b52ffd")


def _table(rows: int, word: str = "step") -> pa.Table:
    """Rows that are all alike: zeros, and one word in all columns of words."""
    zeros = pa.py_buffer(bytes(8 * rows))
    arrays = []
    for field in EVENT_SCHEMA:
        if pa.types.is_dictionary(field.type):
            places = pa.Array.from_buffers(pa.int32(), rows, [None, zeros])
            arrays.append(pa.DictionaryArray.from_arrays(places, pa.array([word])))
        else:
            arrays.append(pa.Array.from_buffers(field.type, rows, [None, zeros]))
    return pa.Table.from_arrays(arrays, schema=EVENT_SCHEMA.with_metadata(_METADATA))


def zeros_that_unpack() -> bytes:
    """Twelve million rows, a gigabyte, in fifty kilobytes."""
    return stream(_table(12_000_000))


def word_that_unpacks() -> bytes:
    """One word of 30 MB in each of five columns, in 25 kB."""
    return stream(_table(1, "w" * 30_000_000))


def dictionaries_that_grow() -> bytes:
    """A word more in each of 300 batches: every batch has its own copy of all words so far."""
    sink = pa.BufferOutputStream()
    options = ipc.IpcWriteOptions(compression="zstd", emit_dictionary_deltas=True)
    words: list[str] = []
    with ipc.new_stream(sink, _table(1).schema, options=options) as writer:
        for number in range(300):
            words.append(f"{number}" + "w" * 100_000)
            names = pa.DictionaryArray.from_arrays(pa.array([number], pa.int32()), pa.array(words))
            batch = _table(1).to_batches()[0]
            writer.write_batch(
                pa.record_batch(
                    [names if f.name == "name" else batch.column(f.name) for f in EVENT_SCHEMA],
                    schema=batch.schema,
                )
            )
    return bytes(sink.getvalue())


def claim_of_a_length() -> bytes:
    """Buffers of some bytes that say they are 16 TB long when unpacked."""
    rows = 1000
    honest = struct.pack("<q", 8 * rows) + _ZSTD
    return stream(_table(rows)).replace(honest, struct.pack("<q", 1 << 44) + _ZSTD)


def claim_of_rows() -> bytes:
    """A batch whose head says 2**62 rows, and buffers as long as they were."""
    rows = 12_345
    return stream(_table(rows), codec=None).replace(struct.pack("<q", rows), b"\0" * 7 + b"\x40")


def claim_of_a_message() -> bytes:
    """A message whose head says that its metadata is 2 GB long."""
    content = stream(_table(10))
    last = content.rindex(b"\xff\xff\xff\xff", 0, len(content) - 8)
    return content[: last + 4] + struct.pack("<i", (1 << 31) - 1) + content[last + 8 :]


BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    bomb.__name__: bomb
    for bomb in (
        zeros_that_unpack,
        word_that_unpacks,
        dictionaries_that_grow,
        claim_of_a_length,
        claim_of_rows,
        claim_of_a_message,
    )
}
