"""A run as a few numbers per step, as monitoring and experiment trackers take them.

Values are in seconds, bytes per second and ratios: the base units that Prometheus asks for. The
definitions are those of the analyses that they come from (docs/concepts.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.bandwidth import measure_bandwidth
from dashboard.analysis.pipeline.bubbles import measure_bubbles
from dashboard.analysis.results import Result
from dashboard.analysis.time_spent.accounting import Accounting, account
from dashboard.analysis.whole_run.summary import WORK, step_times

if TYPE_CHECKING:
    from dashboard.runs import Recording

LABELS: Final = ("category", "dim", "pipeline", "group", "op", "rank")

METRICS: Final[Mapping[str, str]] = {
    "step_time_seconds": "Time of the step: median over the ranks.",
    "time_seconds": "Where the time of the step went, by category: mean over the ranks.",
    "work_seconds": "Compute and optimizer time of a rank in the step.",
    "communication_seconds": "Communication by mesh dimension: mean over the ranks.",
    "exposed_communication_seconds": "The part of it that no compute of the same rank hid.",
    "bubble_fraction_of_window": "Idle time of the pipeline over its window.",
    "bubble_over_ideal": "Idle time of the pipeline over its busy time.",
    "busbw_bytes_per_second": "Bus bandwidth free of arrival skew: what the link did.",
    "busbw_seen_bytes_per_second": "Bus bandwidth as seen: what the communication cost.",
    "arrival_skew_seconds": "From the first to the last rank's arrival: mean over the operations.",
}
"""Metric → what it is. Those of one rank, dimension, pipeline or group have it as a label."""

_SCHEMA: Final = pa.schema(
    [
        ("step", pa.int32()),
        ("metric", pa.string()),
        *((label, pa.string()) for label in LABELS),
        ("value", pa.float64()),
    ]
)
_NS: Final = 1e-9


@dataclass(kw_only=True, frozen=True)
class StepMetrics(Result):
    """table: step, metric (of `METRICS`), its labels (text, null where it has none) and value; in
    order of step.
    """

    table: pa.Table


def step_metrics(run: Recording, steps: Collection[int] | None = None) -> StepMetrics:
    """The numbers of every complete step, or of those of `steps`.

    Before (windows of step 4)     After
    rank 0  100 ms                 step 4  step_time_seconds  0.11
    rank 1  120 ms
    """
    accounting = run.answer(account, steps)
    parts = [
        *_times(accounting),
        *_overlap(accounting),
        *_bubbles(run, steps),
        *_bandwidth(run, steps),
    ]
    table = pa.concat_tables([_SCHEMA.empty_table(), *parts])
    return StepMetrics(table=table.take(pc.sort_indices(table, [("step", "ascending")])))


def _times(accounting: Accounting) -> Iterator[pa.Table]:
    times = step_times(accounting)
    yield _rows(times, "step_time_seconds", _scaled(times["median_ns"], _NS))
    shares = _mean(accounting.table, ["step", "category"], "duration")
    yield _rows(shares, "time_seconds", _scaled(shares["duration"], _NS), category="category")
    table = accounting.table
    work = table.filter(pc.is_in(table["category"], pa.array(WORK)))
    work = work.group_by(["step", "rank"], use_threads=False).aggregate([("duration", "sum")])
    yield _rows(work, "work_seconds", _scaled(work["duration_sum"], _NS), rank="rank")


def _overlap(accounting: Accounting) -> Iterator[pa.Table]:
    """Over all ranks: one that does not communicate in a dimension has no row there, and counts."""
    columns = ("total_ns", "exposed_ns")
    sums = accounting.overlap.group_by(["step", "dim"], use_threads=False).aggregate(
        [(column, "sum") for column in columns]
    )
    ranks = max(pc.count_distinct(accounting.windows["rank"]).as_py(), 1)
    metrics = ("communication_seconds", "exposed_communication_seconds")
    for metric, column in zip(metrics, columns, strict=True):
        yield _rows(sums, metric, _scaled(sums[f"{column}_sum"], _NS / ranks), dim="dim")


def _bubbles(run: Recording, steps: Collection[int] | None) -> Iterator[pa.Table]:
    found = run.answer(measure_bubbles, steps).steps
    for metric in ("bubble_fraction_of_window", "bubble_over_ideal"):
        yield _rows(found, metric, found[metric], pipeline="group")


def _bandwidth(run: Recording, steps: Collection[int] | None) -> Iterator[pa.Table]:
    """Total bytes over total time, as `Bandwidth.summary` has it for all steps."""
    calls = run.answer(measure_bandwidth, steps).operations
    keys = ["step", "group", "op"]
    labels = {"group": "group", "op": "op"}
    for metric, gbps, time in (
        ("busbw_bytes_per_second", "busbw_skew_free", "transfer_ns"),
        ("busbw_seen_bytes_per_second", "busbw_seen", "seen_ns"),
    ):
        # What has no bandwidth, or took no time, does not count.
        known = calls.filter(pc.is_valid(calls[gbps]))
        lasted = pc.cast(known[time], pa.float64())
        moved = pc.multiply(known[gbps], lasted)
        sums = (
            known.select(keys).append_column("moved", moved).append_column("lasted", lasted)
            .group_by(keys, use_threads=False).aggregate([("moved", "sum"), ("lasted", "sum")])
        )  # fmt: skip
        value = _scaled(pc.divide(sums["moved_sum"], sums["lasted_sum"]), 1e9)
        yield _rows(sums, metric, value, **labels)
    skew = _mean(calls, keys, "skew_ns")
    yield _rows(skew, "arrival_skew_seconds", _scaled(skew["skew_ns"], _NS), **labels)


def _mean(table: pa.Table, keys: list[str], column: str) -> pa.Table:
    grouped = table.group_by(keys, use_threads=False).aggregate([(column, "mean")])
    return grouped.rename_columns([*keys, column])


def _scaled(column: pa.ChunkedArray, factor: float) -> pa.ChunkedArray:
    return pc.multiply(pc.cast(column, pa.float64()), factor)


def _rows(table: pa.Table, metric: str, value: pa.ChunkedArray, **labels: str) -> pa.Table:
    """One row per row of `table`; `labels`: label → the column that it is in."""
    count = table.num_rows
    columns = {
        label: pc.cast(table[labels[label]], pa.string())
        if label in labels
        else pa.nulls(count, pa.string())
        for label in LABELS
    }
    name = pa.array(np.full(count, metric, object), pa.string())
    known = {"step": table["step"], "metric": name, **columns, "value": value}
    return pa.table(known, schema=_SCHEMA).filter(pc.is_valid(value))
