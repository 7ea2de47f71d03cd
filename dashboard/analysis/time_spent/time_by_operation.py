"""Where a rank's step time went, by operation: which span was the innermost at every instant.

An instant belongs to the category that the accounting gives it to, and there to the innermost span:
so the operations of a category add up to it, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from dashboard.analysis.intervals import Intervals, common
from dashboard.analysis.rows_by_key import Ints, combinations_numbered
from dashboard.analysis.steps import step_windows
from dashboard.analysis.sums_by_step import Key, SumsByStep, added, sums_by_step
from dashboard.analysis.time_spent.claims import IDLE, claims_of, divide
from dashboard.analysis.time_spent.leaves import innermost
from dashboard.runs.columns import numbers
from dashboard.runs.part import in_steps

if TYPE_CHECKING:
    from dashboard.runs import Recording

OTHERWISE: Final = "no operation"
"""The name of the time in which none was under way."""

_COLUMNS: Final = ("name", "stage")


def time_by_operation(
    run: Recording, rank: int, steps: Collection[int] | None = None
) -> SumsByStep:
    """Of one rank, in complete steps: ns by category, kind, name and stage.

    All keys of a step add up to its window, and those of a category to what the accounting says of
    it. A wait inside a forward is the wait's time, not the forward's; where operations of one
    category merely overlap, the one that began last has the time. What carries no stage is of its
    rank's stage, if the rank holds one.

    Before (events of one step, 0..20)     After
    forward F  stage 0   0..10             compute forward F, stage 0      6
    wait recv  stage 0   4..8              comm:pp wait recv, stage 0      4
                                           idle, no operation, stage 0    10
    """
    windows = step_windows(run, steps, ranks=[rank]).sort_by("start")
    return added([*_by_category(run, rank, windows)] if windows.num_rows else [])


def _by_category(run: Recording, rank: int, windows: pa.Table) -> Iterator[SumsByStep]:
    step = numbers(windows["step"]).astype(np.int64)
    steps = set(step.tolist())
    begin = numbers(windows["start"])
    bounds = np.stack([begin, begin + numbers(windows["duration"])], axis=1)
    held = run.facts[rank].stages
    only_stage = held[0] if len(held) == 1 else None
    claims = claims_of(in_steps(run, rank, steps), rank, _COLUMNS)
    for category, taken in divide(claims, int(bounds[0, 0]), int(bounds[:, 1].max())):
        if category == IDLE:
            keys: list[Key] = [("", OTHERWISE, only_stage)]
            inside, _, window = common(taken, bounds)
            of = np.zeros(len(inside), np.int64)
        else:
            keys, which = _operations(claims.events[category], only_stage)
            pieces, span = _innermost(claims.events[category])
            mine, piece, _ = common(pieces, taken)
            inside, part, window = common(mine, bounds)
            of = which[span[piece[part]]]
        yield sums_by_step(
            steps,
            [(category, *key) for key in keys],
            of,
            step[window],
            inside[:, 1] - inside[:, 0],
        )


def _operations(events: pa.Table, only_stage: int | None) -> tuple[list[Key], Ints]:
    """Kind, name and stage of the events, some of them equal, and which of these each has."""
    told, which = combinations_numbered(events, ("kind", "name", "stage"))
    keys: list[Key] = [
        (kind, name or "", only_stage if stage is None else stage) for kind, name, stage in told
    ]
    return keys, which


def _innermost(events: pa.Table) -> tuple[Intervals, Ints]:
    """Pieces side by side, and the row of `events` that each is of."""
    begin = numbers(events["start"])
    start, until, span = innermost(begin, begin + numbers(events["duration"]))
    return np.stack([start, until], axis=1), span
