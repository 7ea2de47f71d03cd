"""Arrow arrays from numpy's memory and from words, without `pa.array`.

`pa.array` looks whether its argument is pandas', and imports pandas for that where it is installed:
half a second and tens of megabytes in the training process, for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def number_array(
    values: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """The numbers as they lie in memory; null where `valid` is False.

    ```
    values  7  9  5        7
    valid   1  0  1   →   null
                           5
    ```
    """
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    type_ = pa.from_numpy_dtype(values.dtype)
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(type_, len(values), [bits, data])


def word_array(words: Sequence[str]) -> pa.Array:
    """Strings, none of them null."""
    encoded = [word.encode("utf-8", "replace") for word in words]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)
