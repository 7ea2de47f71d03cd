"""Packed records of the recorder → Arrow record batches of the trace format.

Whatever hands back the interpreter lock for a moment, as numpy does for more than 500 numbers, has
to win it back from the training. So columns are turned several at once, not one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.arrays import word_array
from tracer.recorder import Recorder
from tracer.rings import NEIGHBOURS, NONE, OF_OPERATIONS, RECORD_BYTES, RECORD_DTYPE
from tracer.schema import EVENT_SCHEMA, KINDS

_LOW_BITS, _BITS = 4, 8
_KINDS: Final = word_array(KINDS)
_FIELDS: Final[Mapping[str, Any]] = RECORD_DTYPE.fields or {}

Numbers: TypeAlias = npt.NDArray[np.signedinteger[Any]]


def record_batch(records: npt.NDArray[np.void], recorder: Recorder) -> pa.RecordBatch:
    """One batch of `EVENT_SCHEMA` from an array of `RECORD_DTYPE`.

    Dictionaries hold every word interned so far, so each batch's dictionary extends the one
    before it and the stream carries only the difference.
    """
    words = {
        "kind": _KINDS,
        "name": recorder.names.array(),
        "lane": recorder.lanes.array(),
        "group": recorder.groups.array(),
        "dtype": recorder.dtypes.array(),
    }
    columns = _columns(records)
    arrays = [_array(field, *columns[field.name], words.get(field.name)) for field in EVENT_SCHEMA]
    return pa.record_batch(arrays, schema=EVENT_SCHEMA)


def _columns(
    records: npt.NDArray[np.void],
) -> dict[str, tuple[Numbers, npt.NDArray[np.uint8] | None]]:
    """By field: the numbers, and bits that tell which of them are not null."""
    carried = last_operations(records["is_operation"] != 0)
    columns: dict[str, tuple[Numbers, npt.NDArray[np.uint8] | None]] = {
        name: (records[name].astype(np.int32), None) for name in ("lane", "kind")
    }
    for names in NEIGHBOURS:
        values = _turned(records, names)
        valid = np.packbits(values != NONE, axis=1, bitorder="little")
        if carried is not None and names[0] in OF_OPERATIONS:
            values = values.take(carried, axis=1)
        columns |= zip(names, zip(values, valid, strict=True), strict=True)
    numbers, valid_bits = columns["correlation"]
    columns["correlation"] = spread(numbers), valid_bits
    return columns


def _turned(records: npt.NDArray[np.void], names: tuple[str, ...]) -> Numbers:
    """Fields that lie side by side in each record, one row of numbers for each field."""
    form, offset = _FIELDS[names[0]][:2]
    first, wide = offset // form.itemsize, RECORD_BYTES // form.itemsize
    numbers = np.ascontiguousarray(records).view(form).reshape(len(records), wide)
    turned: Numbers = numbers[:, first : first + len(names)].T.copy()
    return turned


def _array(
    field: pa.Field, numbers: Numbers, valid: npt.NDArray[np.uint8] | None, words: pa.Array | None
) -> pa.Array:
    bits = pa.py_buffer(valid) if field.nullable else None
    form = pa.int32() if numbers.itemsize == 4 else pa.int64()
    array = pa.Array.from_buffers(form, len(numbers), [bits, pa.py_buffer(numbers)])
    if words is None:
        return array
    return pa.DictionaryArray.from_arrays(array, words, safe=False)  # they are all our own


def last_operations(is_operation: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp] | None:
    """For each row the place of the one whose operation it shows: its own, or, if it has none, the
    last one; None if all rows have operations, or none has.

    ```
    is_operation  0  1  0  0  1  0   →   1  1  1  1  4  4
    ```

    What a plain event shows there lies under nulls, and nobody reads it. But zstd does: numbers
    that go on as before take a tenth less of the file than some that interrupt them.
    """
    plain = np.flatnonzero(~is_operation)
    if len(plain) in (0, len(is_operation)):
        return None
    shown = np.arange(len(is_operation))
    shown[plain] = is_operation.argmax()
    return np.maximum.accumulate(shown)


def spread(correlations: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers that count up → others, as different and in the same order, that compress better.

    `14, 15, 16, 17` → `14, 15, 256, 257`: the lowest byte has only 16 values, in an order that
    repeats, and what changes rarely is in the others. Numbers up to 2^36 stay below 2^40.
    """
    low = correlations & ((1 << _LOW_BITS) - 1)
    return low | (correlations >> _LOW_BITS << _BITS)
