"""Bubbles as spans of time, for drawing: where each rank's warm-up, stalls and cool-down lie."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from dashboard.analysis.pipeline.actions import action_table, pipelines
from dashboard.analysis.pipeline.bubbles import COOL_DOWN, STALL, WARM_UP
from dashboard.analysis.pipeline.gaps import Gaps, gaps_of
from dashboard.analysis.rows_by_key import Ints
from dashboard.analysis.steps import wanted_steps

if TYPE_CHECKING:
    from dashboard.runs import Recording

_SPANS: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("part", pa.string()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
    ]
)


def bubble_spans(run: Recording, steps: Collection[int] | None = None) -> pa.Table:
    """rank, step, part (`warm_up`, `stall` or `cool_down`), start and duration (ns from the run's
    start) of every bubble, as `measure_bubbles` counts them; in order of start.
    """
    wanted = wanted_steps(run, steps)
    found = [_SPANS.empty_table()]
    for ranks in pipelines(run).values():
        gaps = gaps_of(action_table(run, wanted, ranks), ranks)
        for part, step, place, begin, end in _parts(gaps):
            some = end > begin
            columns = {
                "rank": np.array(ranks, np.int32)[place[some]],
                "step": gaps.steps[step[some]],
                "part": pa.repeat(part, int(some.sum())),
                "start": begin[some],
                "duration": (end - begin)[some],
            }
            found.append(pa.table(columns, schema=_SPANS))
    ordered = [("start", "ascending"), ("step", "ascending"), ("rank", "ascending")]
    return pa.concat_tables(found).sort_by(ordered)


def _parts(gaps: Gaps) -> Iterator[tuple[str, Ints, Ints, Ints, Ints]]:
    """part, and of each of its spans the step's and the rank's place, begin and end."""
    step, place = (axis.ravel() for axis in np.indices(gaps.first.shape))
    yield WARM_UP, step, place, gaps.begin[step], gaps.first.ravel()
    yield STALL, gaps.stall_step, gaps.stall_place, gaps.stall_begin, gaps.stall_end
    yield COOL_DOWN, step, place, gaps.last.ravel(), gaps.end[step]
