"""Which kernels take the device's time: by purpose, with what ran at once, and one by one.

The counterpart of Holistic Trace Analysis' `get_gpu_kernel_breakdown`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import Intervals, intersect, measure, subtract, union
from dashboard.analysis.results import Result
from dashboard.analysis.time_spent.kernels import COMMUNICATION, COMPUTE, MEMORY, purpose_of
from dashboard.analysis.time_spent.temporal_breakdown import kernels_by_rank, purpose_spans

if TYPE_CHECKING:
    from dashboard.runs import Recording

_SAMPLE: Final = pc.VarianceOptions(ddof=1, min_count=2)
"""Divides by n - 1; null for a single kernel."""
_COUNTED: Final = (COMPUTE, COMMUNICATION, MEMORY)
_BY_PURPOSE: Final = pa.schema(
    [("rank", pa.int32()), ("running", pa.string()), ("duration_ns", pa.int64())]
)
_KERNELS: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("purpose", pa.string()),
        ("name", pa.string()),
        ("count", pa.int64()),
        ("sum_ns", pa.int64()),
        ("mean_ns", pa.float64()),
        ("min_ns", pa.int64()),
        ("max_ns", pa.int64()),
        ("stddev_ns", pa.float64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class KernelBreakdown(Result):
    """Kernels of each rank.

    by_purpose: rank, running (what ran at once: `compute`, `compute + communication`, …) and
        duration_ns in which exactly that ran; they add up to the time in which any of the three
        purposes ran.
    kernels: rank, purpose, name, count, and sum, mean, least, largest and sample standard
        deviation of their durations (0 of a single one); in order of the sum.
    """

    by_purpose: pa.Table
    kernels: pa.Table


def kernel_breakdown(run: Recording, steps: Collection[int] | None = None) -> KernelBreakdown:
    """Of the kernels that were launched in these steps (all complete ones by default).

    On one rank, compute 0-10 and NCCL 5-20 → compute 5, compute + communication 5,
    communication 10.
    """
    by_purpose: list[dict[str, Any]] = []
    kernels = [_KERNELS.empty_table()]
    for rank, found in kernels_by_rank(run, steps):
        for running, duration in _at_once(purpose_spans(found)):
            by_purpose.append({"rank": rank, "running": running, "duration_ns": duration})
        kernels.append(_by_name(rank, found))
    return KernelBreakdown(
        by_purpose=pa.Table.from_pylist(by_purpose, schema=_BY_PURPOSE),
        kernels=pa.concat_tables(kernels).combine_chunks(),
    )


def _at_once(spans: dict[str, Intervals]) -> Iterator[tuple[str, int]]:
    """Each set of purposes, and for how long exactly these ran; those that never did left out."""
    found: dict[str, int] = defaultdict(int)
    for size in range(1, len(_COUNTED) + 1):
        for running in combinations(_COUNTED, size):
            together = spans[running[0]]
            for purpose in running[1:]:
                together = intersect(together, spans[purpose])
            others = [spans[purpose] for purpose in _COUNTED if purpose not in running]
            found[" + ".join(running)] = measure(subtract(together, union(*others)))
    yield from ((running, duration) for running, duration in found.items() if duration)


def _by_name(rank: int, kernels: pa.Table) -> pa.Table:
    names = kernels["name"].combine_chunks()
    durations = kernels["duration"]
    exact = durations.cast(pa.float64())
    grouped = (
        pa.table({"number": names.indices, "duration": durations, "exact": exact})
        .group_by("number")
        .aggregate(
            [
                ("duration", "count"),
                ("duration", "sum"),
                ("exact", "mean"),
                ("duration", "min"),
                ("duration", "max"),
                ("exact", "stddev", _SAMPLE),
            ]
        )
    )
    deviation = grouped["exact_stddev"].fill_null(0.0)
    found = names.dictionary.take(grouped["number"].combine_chunks()).to_pylist()
    columns = {
        "rank": pa.array([rank] * grouped.num_rows, pa.int32()),
        "purpose": [purpose_of(name) for name in found],
        "name": found,
        "count": grouped["duration_count"],
        "sum_ns": grouped["duration_sum"],
        "mean_ns": grouped["exact_mean"],
        "min_ns": grouped["duration_min"],
        "max_ns": grouped["duration_max"],
        "stddev_ns": deviation,
    }
    table = pa.table(columns, schema=_KERNELS)
    return table.sort_by([("sum_ns", "descending"), ("name", "ascending")])
