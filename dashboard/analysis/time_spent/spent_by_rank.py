"""Time accounting summed up over steps: a long run needs no row per rank, step and category.

Sums are of whole nanoseconds, so that parts may be added in any grouping.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import summed
from dashboard.analysis.time_spent.accounting import Accounting, account

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, frozen=True)
class SpentByRank(Result):
    """Where the time of each rank went, in all steps together.

    table: rank, category, duration (ns); all of `CATEGORIES` for every rank.
    overlap: dim, total_ns of communication and exposed_ns of it, of all ranks.
    windows: rank, step, start, duration (ns) of the step windows: the median over the ranks of a
        step needs them all.
    """

    table: pa.Table
    overlap: pa.Table
    windows: pa.Table


def spent_by_rank(run: Recording, steps: Collection[int] | None = None) -> SpentByRank:
    """Of every step that is complete on all ranks (or of those of `steps`)."""
    return spent_of(run.answer(account, steps))


def spent_of(found: Accounting | SpentByRank) -> SpentByRank:
    """The sums.

    Before                              After
    rank 0, step 4, compute 10 ns       rank 0, compute 22 ns
    rank 0, step 5, compute 12 ns
    """
    return SpentByRank(
        table=summed(found.table, ["rank", "category"], ["duration"]),
        overlap=summed(found.overlap, ["dim"], ["total_ns", "exposed_ns"]),
        windows=found.windows,
    )


def joined_spent(parts: Sequence[SpentByRank]) -> SpentByRank:
    """Of several parts, in order of rank, and of step within a rank."""
    return spent_of(
        SpentByRank(
            table=pa.concat_tables([part.table for part in parts]),
            overlap=pa.concat_tables([part.overlap for part in parts]),
            windows=pa.concat_tables([part.windows for part in parts]).combine_chunks(),
        )
    )
