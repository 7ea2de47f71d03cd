"""Words of events are plain text, whichever way that is found out."""

from __future__ import annotations

from unittest.mock import patch

import pyarrow as pa
import pytest

from tracer import rows
from tracer.rows import possible_rows
from tracer.text import MAX_WORD, plain_text


@pytest.mark.parametrize(
    "odd", ["", "é", "a\x1b[31m", "two\u2028lines", "n" * MAX_WORD, "n" * (MAX_WORD + 1)]
)
def test_words_are_plain_text(odd: str) -> None:
    words = pa.array(["gemm", odd, None, "gemm"]).dictionary_encode()
    table = pa.table({"name": words})
    expected = ["gemm", plain_text(odd), None, "gemm"]
    assert possible_rows(table)[0]["name"].to_pylist() == expected
    with patch.object(rows, "_FEW_WORDS", 0):
        assert possible_rows(table)[0]["name"].to_pylist() == expected
