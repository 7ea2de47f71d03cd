"""Arrow arrays that are made without pandas, against those of `pa.array`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.support.launching import run_python
from tracer.arrays import number_array, word_array

_RECORDS = """
import sys
from tracer import Tracer
with Tracer(sys.argv[1], collectors=[], flush_interval_s=0.01) as t:
    for _ in range(3):
        with t.span("work"):
            t.counter("loss", 0.5)
        t.step()
print(sorted({"pandas", "duckdb", "plotly", "dash", "torch"} & set(sys.modules)))
"""


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.booleans())))
def test_numbers_are_those_of_arrow(rows: list[tuple[int, bool]]) -> None:
    values = np.array([value for value, _ in rows], np.int64)
    valid = np.array([is_valid for _, is_valid in rows], bool)
    assert number_array(values).equals(pa.array(values))
    made = number_array(values, valid)
    made.validate(full=True)
    assert made.equals(pa.array(values, mask=~valid))
    assert made.null_count == (~valid).sum()


@given(st.lists(st.text()))
def test_words_are_those_of_arrow(words: list[str]) -> None:
    made = word_array(words)
    made.validate(full=True)
    assert made.equals(pa.array(words, pa.string()))


def test_the_training_process_is_spared_what_it_does_not_need(tmp_path: Path) -> None:
    assert run_python("-c", _RECORDS, tmp_path / "run").stdout == "[]\n"
