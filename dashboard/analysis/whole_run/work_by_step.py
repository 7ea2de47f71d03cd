"""How much each rank worked in each step, against the median of all: who is slow, and when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.results import Result
from dashboard.analysis.time_spent.accounting import account
from dashboard.analysis.whole_run.summary import WORK

if TYPE_CHECKING:
    from dashboard.runs import Recording

MOST_STEPS: Final = 240
"""Columns of a map that have some pixels each; beyond them a column stands for several steps."""

_TABLE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
        ("work_ns", pa.int64()),
        ("excess", pa.float64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class WorkByStep(Result):
    """table: rank, step, its window (start and duration, ns), work_ns: compute and optimizer, and
    excess = work_ns / median_ns − 1 (null where the median is 0). median_ns: of all its rows.

    Where there are over `MOST_STEPS` steps, of each stretch of steps only the one in which the
    rank worked most; `stretch` is how many steps that are, and `first_step` where each begins.
    """

    table: pa.Table
    median_ns: float
    stretch: int
    first_steps: tuple[int, ...]


def work_by_step(run: Recording, steps: Collection[int] | None = None) -> WorkByStep:
    """Of all complete steps, or of those of `steps`.

    Work of 100 and 100 (step 0), 100 and 150 (step 1): the median is 100, the last excess 0.5.
    """
    accounting = run.answer(account, steps)
    known = sorted(set(accounting.windows["step"].to_pylist()))
    works = accounting.table.filter(pc.is_in(accounting.table["category"], pa.array(WORK)))
    summed = works.group_by(["rank", "step"], use_threads=False).aggregate([("duration", "sum")])
    joined = accounting.windows.join(summed, ["rank", "step"]).sort_by(
        [("rank", "ascending"), ("step", "ascending")]
    )
    ns = pc.fill_null(joined["duration_sum"], 0).to_numpy().astype(np.int64)
    usual = float(np.median(ns)) if len(ns) else 0.0
    table = pa.table(
        {
            "rank": joined["rank"],
            "step": joined["step"],
            "start": joined["start"],
            "duration": joined["duration"],
            "work_ns": ns,
            "excess": pa.array(ns / usual - 1 if usual else [None] * len(ns), pa.float64()),
        },
        schema=_TABLE,
    )
    stretch = -(-len(known) // MOST_STEPS) or 1
    return WorkByStep(
        table=table if stretch == 1 else _most_of_each(table, known, stretch),
        median_ns=usual,
        stretch=stretch,
        first_steps=tuple(known[::stretch]),
    )


def _most_of_each(table: pa.Table, known: Sequence[int], stretch: int) -> pa.Table:
    """Of each rank and stretch of steps the row with most work, the first of several."""
    rank, step = table["rank"].to_numpy(), table["step"].to_numpy()
    place = np.searchsorted(np.array(known), step) // stretch
    order = np.lexsort((step, -table["work_ns"].to_numpy(), place, rank))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(rank[order]) != 0) | (np.diff(place[order]) != 0)
    return table.take(pa.array(order[first]))
