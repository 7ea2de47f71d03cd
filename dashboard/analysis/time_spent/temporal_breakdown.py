"""What each rank's device did: idle, compute, or neither; and how far compute hid communication.

    kernel time   = end of the last kernel - start of the first, of each run of consecutive steps
    compute       = time in which any kernel that computes ran
    idle          = time in which nothing ran
    non-compute   = kernel time - compute - idle: communication, copies and synchronization alone
    overlap       = time of communication with compute at work / time of communication

These are the definitions of Holistic Trace Analysis (`get_temporal_breakdown` and
`get_comm_comp_overlap`). Time accounting (accounting.py) divides whole step windows instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import Intervals, intersect, measure, union
from dashboard.analysis.results import Result
from dashboard.analysis.steps import wanted_steps
from dashboard.analysis.time_spent.claims import spans_of
from dashboard.analysis.time_spent.kernels import (
    COMMUNICATION,
    COMPUTE,
    MEMORY,
    PURPOSES,
    holds_kernels,
    of_purpose,
)
from dashboard.runs.columns import distinct, numbers
from tracer.arrays import number_array

if TYPE_CHECKING:
    from dashboard.runs import Recording

_COLUMNS: Final = ("step", "start", "duration", "name")
_RANKS: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("kernel_time_ns", pa.int64()),
        ("idle_ns", pa.int64()),
        ("compute_ns", pa.int64()),
        ("non_compute_ns", pa.int64()),
        ("communication_ns", pa.int64()),
        ("memory_ns", pa.int64()),
        ("overlapped_ns", pa.int64()),
        ("overlap", pa.float64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class TemporalBreakdown(Result):
    """The device's time by rank.

    ranks: rank, kernel_time_ns, of which idle_ns, compute_ns and non_compute_ns (they add up),
        communication_ns and memory_ns whether or not anything else ran beside them,
        overlapped_ns of communication with compute at work, and overlap, its share (null without
        communication). Ranks without kernels are left out.
    """

    ranks: pa.Table

    def share(self, part: str) -> float:
        """idle, compute or non_compute as a share of the kernel time of all ranks; 0 without."""
        whole = pc.sum(self.ranks["kernel_time_ns"]).as_py() or 0
        return (pc.sum(self.ranks[f"{part}_ns"]).as_py() or 0) / whole if whole else 0.0


def temporal_breakdown(run: Recording, steps: Collection[int] | None = None) -> TemporalBreakdown:
    """Of the kernels that were launched in these steps (all complete ones by default).

    On one rank, compute 0-10, NCCL 5-20, compute 30-40: kernel time 40, compute 20, idle 10,
    non-compute 10, overlap 5/15.
    """
    rows = [_of_rank(rank, kernels) for rank, kernels in kernels_by_rank(run, steps)]
    return TemporalBreakdown(
        ranks=pa.table([_column(field, rows) for field in _RANKS], schema=_RANKS)
    )


def kernels_by_rank(
    run: Recording, steps: Collection[int] | None
) -> Iterator[tuple[int, pa.Table]]:
    """The device kernels of each rank that has any."""
    wanted = wanted_steps(run, steps)
    for rank in run.ranks:
        kernels = run.events([rank], wanted, ("kernel",), _COLUMNS, holds_kernels)
        if kernels.num_rows:
            yield rank, kernels


def purpose_spans(kernels: pa.Table) -> dict[str, Intervals]:
    """When kernels of each purpose ran."""
    return {
        purpose: spans_of(of_purpose(kernels.select(["name", "start", "duration"]), purpose))
        for purpose in PURPOSES
    }


def _of_rank(rank: int, kernels: pa.Table) -> Mapping[str, Any]:
    spans = purpose_spans(kernels)
    busy = measure(union(*spans.values()))
    total = sum(_extents(kernels))
    compute, communication = measure(spans[COMPUTE]), measure(spans[COMMUNICATION])
    overlapped = measure(intersect(spans[COMMUNICATION], spans[COMPUTE]))
    return {
        "rank": rank,
        "kernel_time_ns": total,
        "idle_ns": total - busy,
        "compute_ns": compute,
        "non_compute_ns": busy - compute,
        "communication_ns": communication,
        "memory_ns": measure(spans[MEMORY]),
        "overlapped_ns": overlapped,
        "overlap": overlapped / communication if communication else None,
    }


def _column(field: pa.Field, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    values = [row[field.name] for row in rows]
    known = np.array([value is not None for value in values], np.bool_)
    filled = [0 if value is None else value for value in values]
    plain = np.array(filled, field.type.to_pandas_dtype())
    return number_array(plain, None if known.all() else known)


def _extents(kernels: pa.Table) -> Iterator[int]:
    """From the first start to the last end in each run of consecutive steps that have kernels:
    between two kernel windows nothing is known of the device.
    """
    step, start = numbers(kernels["step"]), numbers(kernels["start"])
    end = start + numbers(kernels["duration"])
    known = distinct(step)
    for chain in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        inside = (step >= chain[0]) & (step <= chain[-1])
        yield int(end[inside].max() - start[inside].min())
