"""Bubbles as spans of time, for drawing: where each rank's warm-up, stalls and cool-down lie."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from dashboard.analysis.pipeline.actions import pipeline_actions, pipelines
from dashboard.analysis.pipeline.bubbles import rank_gaps

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
    rows: list[dict[str, Any]] = []
    for step, actions in pipeline_actions(run, steps).items():
        for ranks in pipelines(run).values():
            mine = [action for action in actions if action.rank in ranks]
            for rank in ranks if mine else ():
                for part, spans in rank_gaps(mine, rank).items():
                    key = {"rank": rank, "step": step, "part": part}
                    rows += [key | {"start": a, "duration": b - a} for a, b in spans.tolist()]
    return pa.Table.from_pylist(rows, schema=_SPANS).sort_by("start")
