"""Packed records → record batches: what a plain event shows under its nulls reaches nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tracer.batches import last_operations, record_batch, spread
from tracer.recorder import Recorder
from tracer.rings import NONE, pack_operation
from tracer.schema import EVENT_SCHEMA, Kind
from tracer.streams import StreamWriter, read_stream

_OPERATIONS = st.lists(st.one_of(st.none(), st.integers(0, 1 << 20)), max_size=40)


@given(_OPERATIONS)
def test_operations_keep_their_numbers_and_plain_events_have_none(rows: list[int | None]) -> None:
    """A bytes value per row, or None for a plain event."""
    recorder = Recorder()
    recorder.active = True
    group = recorder.groups.intern("tp:0-1")
    name = recorder.names.intern("send")
    for start, size in enumerate(rows):
        if size is None:
            recorder.emit(Kind.USER, name, start, 1)
        else:
            number = recorder.next_correlation()
            packed = pack_operation(
                name, NONE, NONE, group, number, size, NONE, number, NONE, 1, NONE
            )
            recorder.emit_operation(Kind.SEND, start, 1, packed)
    batches = [record_batch(records, recorder) for records in recorder.drain()]
    table = pa.Table.from_batches(batches, schema=EVENT_SCHEMA)

    table.validate(full=True)
    assert table["bytes"].to_pylist() == rows
    assert table["group"].to_pylist() == [None if n is None else "tp:0-1" for n in rows]
    assert table["count"].null_count == table["dtype"].null_count == len(rows)
    numbers = [number for number in table["correlation"].to_pylist() if number is not None]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == sum(size is not None for size in rows)


def test_a_plain_event_shows_the_last_operation_under_its_nulls() -> None:
    shown = last_operations(np.array([0, 1, 0, 0, 1, 0], bool))

    assert shown is not None
    assert shown.tolist() == [1, 1, 1, 1, 4, 4]
    assert last_operations(np.zeros(3, bool)) is None
    assert last_operations(np.ones(3, bool)) is None


@given(st.integers(0, (1 << 36) - 1), st.integers(1, 1_000))
def test_correlations_stay_different_in_order_and_below_2_to_the_40(first: int, more: int) -> None:
    """The analyses put a rank above the lowest 40 bits."""
    last = min(first + more, (1 << 36) - 1)
    numbers = spread(np.arange(first, last + 1, dtype=np.int64))

    assert (np.diff(numbers) > 0).all()
    assert numbers[-1] < 1 << 40


def test_numbers_of_operations_between_plain_events_take_a_tenth_of_a_file_less(
    tmp_path: Path,
) -> None:
    """Against the same events with nothing carried on and correlations that count by one.

    Every operation is followed by 0 to 3 plain events (a fixed random sequence), as in pipelines.
    """
    recorder = Recorder()
    recorder.active = True
    random = np.random.default_rng(0)
    name, group = recorder.names.intern("send"), recorder.groups.intern("pp:0,1")
    at = 0
    for number in range(2_000):
        at += int(random.integers(100_000, 300_000))
        packed = pack_operation(name, 0, 0, group, number, 4096, 1024, number + 1, NONE, 1, NONE)
        recorder.emit_operation(Kind.SEND, at, int(random.integers(5_000, 50_000)), packed)
        for _ in range(int(random.integers(4))):
            at += int(random.integers(100_000, 300_000))
            recorder.emit(Kind.FORWARD, name, at, int(random.integers(50_000, 90_000)))
    records = np.concatenate(recorder.drain())
    batch = record_batch(records, recorder)

    sizes = []
    for what, written in (("new", batch), ("plain", _as_counted(batch))):
        writer = StreamWriter(tmp_path / what, EVENT_SCHEMA, "events", run_id="x", rank=0)
        writer.write(written)
        writer.close()
        sizes.append((tmp_path / what).stat().st_size)
        assert read_stream(tmp_path / what, "events").table.num_rows == len(records)
    assert sizes[0] < 0.9 * sizes[1]


def _as_counted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """−1 under every null, as records have it, and correlations 1, 2, 3 …"""
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        is_word = isinstance(column, pa.DictionaryArray)
        numbers = column.indices if is_word else column
        valid = np.asarray(column.is_valid())
        values = numbers.fill_null(NONE).to_numpy()
        if field.name == "correlation":
            values = np.where(valid, np.cumsum(valid), NONE)
        bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
        data = pa.py_buffer(np.ascontiguousarray(values.astype(numbers.type.to_pandas_dtype())))
        made = pa.Array.from_buffers(numbers.type, len(values), [bits, data])
        columns.append(pa.DictionaryArray.from_arrays(made, column.dictionary) if is_word else made)
    return pa.record_batch(columns, schema=batch.schema)
