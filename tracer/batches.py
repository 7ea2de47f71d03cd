"""Packed records of the recorder → Arrow record batches of the trace format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.arrays import number_array, word_array
from tracer.recorder import Recorder
from tracer.rings import NONE, OF_OPERATIONS
from tracer.schema import EVENT_SCHEMA, KINDS

_REQUIRED = ("start", "duration")
_LOW_BITS, _BITS = 4, 8


def record_batch(records: npt.NDArray[np.void], recorder: Recorder) -> pa.RecordBatch:
    """One batch of `EVENT_SCHEMA` from an array of `RECORD_DTYPE`.

    Dictionaries hold every word interned so far, so each batch's dictionary extends the one
    before it and the stream carries only the difference.
    """
    words = {
        "kind": list(KINDS),
        "name": list(recorder.names.words),
        "lane": list(recorder.lanes.words),
        "group": list(recorder.groups.words),
        "dtype": list(recorder.dtypes.words),
    }
    carried = last_operations(records["is_operation"] != 0)
    return pa.record_batch(
        [_column(records, field, words.get(field.name), carried) for field in EVENT_SCHEMA],
        schema=EVENT_SCHEMA,
    )


def _column(
    records: npt.NDArray[np.void],
    field: pa.Field,
    words: list[str] | None,
    carried: npt.NDArray[np.intp] | None,
) -> pa.Array:
    values = np.ascontiguousarray(records[field.name])
    valid = None if field.name in _REQUIRED else values != NONE
    if carried is not None and field.name in OF_OPERATIONS:
        values = values[carried]
    if field.name == "correlation":
        values = spread(values)
    if words is None:
        return number_array(values.astype(field.type.to_pandas_dtype(), copy=False), valid)
    indices = number_array(values.astype(np.int32), valid)
    return pa.DictionaryArray.from_arrays(indices, word_array(words))


def last_operations(is_operation: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp] | None:
    """For each row the place of the one whose operation it shows: its own, or, if it has none, the
    last one; None if all rows have operations, or none has.

    ```
    is_operation  0  1  0  0  1  0   →   1  1  1  1  4  4
    ```

    What a plain event shows there lies under nulls, and nobody reads it. But zstd does: numbers
    that go on as before take a tenth less of the file than some that interrupt them.
    """
    places = np.flatnonzero(is_operation)
    if len(places) in (0, len(is_operation)):
        return None
    shown: npt.NDArray[np.intp] = places[np.maximum(np.cumsum(is_operation) - 1, 0)]
    return shown


def spread(correlations: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers that count up → others, as different and in the same order, that compress better.

    `14, 15, 16, 17` → `14, 15, 256, 257`: the lowest byte has only 16 values, in an order that
    repeats, and what changes rarely is in the others. Numbers up to 2^36 stay below 2^40.
    """
    low = correlations & ((1 << _LOW_BITS) - 1)
    return low | (correlations >> _LOW_BITS << _BITS)
