"""Between Arrow and numpy or Python's values without `pa.array` and `to_numpy`.

Both look for pandas, and import it where it is installed: half a second and tens of megabytes, in
the training process too, for nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

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


def bool_array(values: npt.NDArray[np.bool_]) -> pa.Array:
    """Truth values, none of them null: a mask for `filter`."""
    bits = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])


def word_array(words: Sequence[str | None]) -> pa.Array:
    """Strings; None is null. What is no character of UTF-8 becomes `?`."""
    encoded = [b"" if word is None else word.encode("utf-8", "replace") for word in words]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    valid = np.array([word is not None for word in words], np.bool_)
    bits = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [bits, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def int_array(values: Sequence[int | None]) -> pa.Array:
    """Whole numbers of 64 bits; None is null.

    Raises:
        TypeError: one is none.
        OverflowError: one does not fit.
    """
    types = set(map(type, values))
    if bool in types:
        raise TypeError("True and False are no numbers")
    if types == {int}:
        return number_array(np.array(values, np.int64))
    valid = np.array([value is not None for value in values], np.bool_)
    numbers = [0 if value is None else operator.index(value) for value in values]
    return number_array(np.array(numbers, np.int64), valid)


def numpy_numbers(array: pa.Array, *, null: float = 0) -> npt.NDArray[Any]:
    """The numbers or truth values of an Arrow array, and `null` where it has none. Numbers without
    nulls are not copied.
    """
    if pa.types.is_boolean(array.type):
        return numpy_numbers(array.cast(pa.uint8()), null=null).view(np.bool_)
    plain = pa.Array.from_buffers(
        array.type, len(array), [None, array.buffers()[1]], 0, array.offset
    )
    numbers: npt.NDArray[Any] = np.from_dlpack(plain)
    if array.null_count:
        numbers = np.where(numpy_numbers(array.is_valid()), numbers, null)
    return numbers
