"""A run in a few numbers: step times, where each rank's time goes, and the headline figures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.bubbles import Bubbles, measure_bubbles
from dashboard.analysis.results import Result
from dashboard.analysis.time_spent.accounting import Accounting, account
from dashboard.analysis.time_spent.claims import COMMUNICATION
from dashboard.analysis.time_spent.spent_by_rank import SpentByRank

if TYPE_CHECKING:
    from dashboard.runs import Recording

_BY_DIMENSION: Final = pa.schema(
    [
        ("dim", pa.string()),
        ("total_ns", pa.float64()),
        ("exposed_ns", pa.float64()),
        ("overlapped_ns", pa.float64()),
        ("overlap", pa.float64()),
    ]
)

WORK: Final = ("compute", "optimizer")


@dataclass(kw_only=True, frozen=True)
class KeyFigures(Result):
    """The headline figures of a run; None where there is nothing to measure.

    step_ns: median over steps of the median over ranks; step_low_ns and step_high_ns: the
        fastest and the slowest step.
    compute_share, exposed_share, idle_share: of all time of all ranks; exposed_ns: exposed
        communication per step and rank; exposed_dim: the category with most of it.
    bubble, plan_bound, theory: fraction of the pipeline window (medians over the steps).
    slowest_rank: the rank with most compute and optimizer time per step, slowest_work_ns; and
        slowest_excess: by which share that exceeds the median of the others.
    """

    steps: int
    step_ns: float | None = None
    step_low_ns: float | None = None
    step_high_ns: float | None = None
    compute_share: float | None = None
    exposed_share: float | None = None
    exposed_ns: float | None = None
    exposed_dim: str | None = None
    idle_share: float | None = None
    bubble: float | None = None
    plan_bound: float | None = None
    theory: float | None = None
    slowest_rank: int | None = None
    slowest_work_ns: float | None = None
    slowest_excess: float | None = None


def key_figures(run: Recording, steps: Collection[int] | None = None) -> KeyFigures:
    """The headline figures over all complete steps, or those of `steps`."""
    return headline(run.answer(account, steps), run.answer(measure_bubbles, steps))


def headline(accounting: Accounting, bubbles: Bubbles) -> KeyFigures:
    """The headline figures from what is measured already."""
    times = step_times(accounting)
    if times.num_rows == 0:
        return KeyFigures(steps=0)
    totals = _totals(accounting)
    whole = sum(totals.values())
    exposed = {category: totals.get(category, 0) for category in COMMUNICATION}
    rank_steps = accounting.windows.num_rows
    slowest, work, excess = _slowest(accounting)
    return KeyFigures(
        steps=times.num_rows,
        step_ns=float(np.median(times["median_ns"].to_numpy())),
        step_low_ns=float(pc.min(times["median_ns"]).as_py()),
        step_high_ns=float(pc.max(times["median_ns"]).as_py()),
        compute_share=_share(totals.get("compute", 0), whole),
        exposed_share=_share(sum(exposed.values()), whole),
        exposed_ns=sum(exposed.values()) / rank_steps,
        exposed_dim=max(exposed, key=lambda c: exposed[c]) if any(exposed.values()) else None,
        idle_share=_share(totals.get("idle", 0) + totals.get("host", 0), whole),
        bubble=_median(bubbles.steps["bubble_fraction_of_window"]),
        plan_bound=_median(bubbles.steps["plan_bound_fraction_of_window"]),
        theory=None if bubbles.theory is None else bubbles.theory.fraction_of_window,
        slowest_rank=slowest,
        slowest_work_ns=work,
        slowest_excess=excess,
    )


def step_times(accounting: Accounting | SpentByRank) -> pa.Table:
    """Per step, in order: step, start (ns, of the first rank to begin it), and over the ranks
    median_ns, low_ns and high_ns of its window.

    Before (windows)             After
    rank 0, step 4, 100 ns       step 4, median 110, low 100, high 120
    rank 1, step 4, 120 ns
    """
    windows = accounting.windows
    step, start, length = (windows[name].to_numpy() for name in ("step", "start", "duration"))
    order = np.lexsort((length, step))
    steps, first, count = np.unique(step[order], return_index=True, return_counts=True)
    length = length[order]
    medians = (length[first + (count - 1) // 2] + length[first + count // 2]) / 2
    return pa.table(
        {
            "step": pa.array(steps, windows.schema.field("step").type),
            "start": np.minimum.reduceat(start[order], first) if len(steps) else start,
            "median_ns": pa.array(medians, pa.float64()),
            "low_ns": length[first],
            "high_ns": length[first + count - 1],
        }
    )


def mean_by_rank(accounting: Accounting) -> pa.Table:
    """rank, category, ns_per_step (the mean over steps) and share of the rank's time.

    All categories of every rank, in the order of the accounting.
    """
    grouped = accounting.table.group_by(["rank", "category"], use_threads=False)
    means = grouped.aggregate([("duration", "mean")])
    per_rank = means.group_by("rank", use_threads=False).aggregate([("duration_mean", "sum")])
    whole = dict(zip(*(column.to_pylist() for column in per_rank.columns), strict=True))
    rows = zip(means["rank"].to_pylist(), means["duration_mean"].to_pylist(), strict=True)
    shares = [_share(ns, whole[rank]) for rank, ns in rows]
    return pa.table(
        {
            "rank": means["rank"],
            "category": means["category"],
            "ns_per_step": means["duration_mean"],
            "share": pa.array(shares, pa.float64()),
        }
    )


def communication_by_dimension(accounting: Accounting | SpentByRank) -> pa.Table:
    """dim, and per step and rank (means, ns) total_ns, exposed_ns and overlapped_ns = total -
    exposed, and overlap = overlapped / total; the dimension with most exposed first.

    Before (overlap)                     After
    rank 0, tp: total 10, exposed 4      tp: total 9, exposed 6, overlapped 3, overlap 1/3
    rank 1, tp: total 8, exposed 8
    """
    grouped = accounting.overlap.group_by("dim", use_threads=False).aggregate(
        [("total_ns", "sum"), ("exposed_ns", "sum")]
    )
    windows = max(accounting.windows.num_rows, 1)
    rows = [
        {
            "dim": row["dim"],
            "total_ns": row["total_ns_sum"] / windows,
            "exposed_ns": row["exposed_ns_sum"] / windows,
            "overlapped_ns": (row["total_ns_sum"] - row["exposed_ns_sum"]) / windows,
            "overlap": _share(row["total_ns_sum"] - row["exposed_ns_sum"], row["total_ns_sum"]),
        }
        for row in grouped.to_pylist()
    ]
    rows.sort(key=lambda row: -row["exposed_ns"])
    return pa.Table.from_pylist(rows, schema=_BY_DIMENSION)


def _totals(accounting: Accounting) -> dict[str, int]:
    grouped = accounting.table.group_by("category").aggregate([("duration", "sum")])
    return dict(zip(*(column.to_pylist() for column in grouped.columns), strict=True))


def _slowest(accounting: Accounting) -> tuple[int | None, float | None, float | None]:
    """The rank that works longest per step, how long, and by which share more than the others."""
    work: dict[int, float] = {}
    for row in mean_by_rank(accounting).to_pylist():
        if row["category"] in WORK:
            work[row["rank"]] = work.get(row["rank"], 0.0) + row["ns_per_step"]
    rank = max(work, key=lambda rank: work[rank])
    if work[rank] == 0:
        return None, None, None
    others = [spent for other, spent in work.items() if other != rank]
    usual = median(others) if others else 0.0
    return rank, work[rank], _share(work[rank] - usual, usual)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _median(column: pa.ChunkedArray) -> float | None:
    known = column.drop_null().to_numpy()
    return float(np.median(known)) if len(known) else None
