"""Packed records of the recorder → Arrow record batches of the trace format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.arrays import number_array, word_array
from tracer.recorder import Recorder
from tracer.rings import NONE
from tracer.schema import EVENT_SCHEMA, KINDS

_REQUIRED = ("start", "duration")
_WORDS = ("kind", "name", "lane", "group", "dtype")


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
    return pa.record_batch(
        [_column(records, field, words.get(field.name)) for field in EVENT_SCHEMA],
        schema=EVENT_SCHEMA,
    )


def _column(records: npt.NDArray[np.void], field: pa.Field, words: list[str] | None) -> pa.Array:
    values = np.ascontiguousarray(records[field.name])
    valid = None if field.name in _REQUIRED else values != NONE
    if words is None:
        return number_array(values.astype(field.type.to_pandas_dtype(), copy=False), valid)
    indices = number_array(values.astype(np.int32), valid)
    return pa.DictionaryArray.from_arrays(indices, word_array(words))
