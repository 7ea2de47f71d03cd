"""Step times of windows in columns are those that follow from the definition, chain by chain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from dashboard.analysis.replay.replay import times_of
from dashboard.analysis.steps import chains

Row = tuple[int, int, int, int]


def _tables(rows: Sequence[Row]) -> list[pa.Table]:
    """One for each rank."""
    names = ("rank", "step", "start", "duration")
    types = (pa.int32(), pa.int32(), pa.int64(), pa.int64())
    schema = pa.schema(list(zip(names, types, strict=True)))
    ranks = sorted({row[0] for row in rows})
    return [
        pa.Table.from_pylist(
            [dict(zip(names, row, strict=True)) for row in rows if row[0] == rank], schema=schema
        )
        for rank in ranks
    ]


def _by_definition(tables: Sequence[pa.Table]) -> list[tuple[int, int]]:
    found = []
    for chain in chains(tables):
        ends = {step: max(end for _, end in of.values()) for step, of in chain.by_step.items()}
        steps = list(ends)
        found += [(b, ends[b] - ends[a]) for a, b in pairwise(steps)]
        if len(steps) == 1:
            first = min(begin for begin, _ in chain.by_step[steps[0]].values())
            found.append((steps[0], ends[steps[0]] - first))
    return found


def test_the_first_step_of_a_chain_is_left_out_and_a_step_by_itself_is_not() -> None:
    """Rank 1 has a gap before step 2, so that a chain ends with step 1; step 4 is alone."""
    rows = [
        *((0, 0, 0, 10), (0, 1, 10, 15), (0, 2, 25, 5), (0, 3, 30, 8), (0, 4, 50, 9)),
        *((1, 0, 1, 11), (1, 1, 12, 11), (1, 2, 24, 5), (1, 3, 29, 6), (1, 4, 52, 9)),
    ]
    found = times_of(_tables(rows))
    assert found.steps == (1, 3, 4)
    assert found.lengths.tolist() == [25 - 12, 38 - 30, 61 - 50]
    assert times_of([]).steps == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3), st.integers(0, 3)),
        max_size=30,
    )
)
def test_any_windows(rows: list[Row]) -> None:
    """Ranks may lack steps or have them twice; a step begins where the one before could end."""
    tables = _tables([(rank, step, 3 * step + start, length) for rank, step, start, length in rows])
    found = times_of(tables)
    assert list(zip(found.steps, found.lengths.tolist(), strict=True)) == _by_definition(tables)
