"""What the links of a run can do and did: lines, peaks, utilization, slow links, in one answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dashboard.analysis.communication.bandwidth import BUS_FACTORS, measure_bandwidth
from dashboard.analysis.communication.bandwidth_by_size import time_by_size
from dashboard.analysis.communication.latency_bandwidth import Line, fit_lines
from dashboard.analysis.communication.link_peaks import Peak, link_peaks, peak_utilization
from dashboard.analysis.communication.slow_links import SlowLink, slow_links
from dashboard.analysis.communication.topology_peaks import topology_peaks
from dashboard.analysis.results import Result
from dashboard.runs.calibration import calibration_beside, calibration_notes
from tracer.calibration_file import Calibration, CalibrationPoint

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, frozen=True)
class Links(Result):
    """lines: of the run's own operations; calibrated: of `rankscope calibrate`.
    times, calibrated_times: what they were fitted to (`time_by_size`).
    peaks: by mesh dimension. utilization: see `peak_utilization`.
    slow: the slow links, the dearest first.
    notes: what of the calibration does not fit the run, or could not be read.
    """

    lines: tuple[Line, ...]
    calibrated: tuple[Line, ...]
    times: pa.Table
    calibrated_times: pa.Table
    peaks: Mapping[str, Peak]
    utilization: pa.Table
    slow: tuple[SlowLink, ...]
    notes: tuple[str, ...] = ()

    def line(self, group: str, op: str) -> Line | None:
        """The line of an op over a group from which times can be predicted: the run's own, for it
        was measured under load, else the calibrated one.
        """
        found = [ln for ln in (*self.lines, *self.calibrated) if (ln.group, ln.op) == (group, op)]
        return next((line for line in found if line.alpha_ns is not None), None)

    def fits(self) -> list[Line]:
        """Of the run's own operations that have a bus bandwidth, the lines as `line` finds them."""
        found = [self.line(line.group, line.op) for line in self.lines]
        return [line for line in found if line is not None and line.op in BUS_FACTORS]

    def to_json(self) -> dict[str, Any]:
        """As `Result.to_json`, with lines, peaks and slow links as objects."""
        plain = super().to_json()
        for name in ("lines", "calibrated", "slow"):
            plain[name] = [entry.to_json() for entry in getattr(self, name)]
        return plain | {"peaks": {dim: peak.to_json() for dim, peak in self.peaks.items()}}


def links(
    run: Recording,
    steps: Collection[int] | None = None,
    *,
    calibration: Calibration | None = None,
    given: Mapping[str, float] | None = None,
) -> Links:
    """The links of a run, of all its steps or of `steps`.

    calibration: in place of the one in the run's directory. given: peaks in GB/s by dimension.
    """
    bandwidth = run.answer(measure_bandwidth, steps)
    notes: tuple[str, ...] = ()
    if calibration is None:
        calibration, notes = calibration_beside(run.path)
    if calibration is not None:
        notes += tuple(calibration_notes(run, calibration))
    peaks = link_peaks(run.meta.link_peaks, calibration, given, topology_peaks(run))
    swept = calibrated_operations(() if calibration is None else calibration.points)
    lines, times, slow = run.answer(_measured, steps)
    return Links(
        lines=lines,
        calibrated=fit_lines(swept),
        times=times,
        calibrated_times=time_by_size(swept),
        peaks=peaks,
        utilization=peak_utilization(bandwidth, peaks),
        slow=slow,
        notes=notes,
    )


def _measured(
    run: Recording, steps: Collection[int]
) -> tuple[tuple[Line, ...], pa.Table, tuple[SlowLink, ...]]:
    """What the run alone tells, which does not change: its lines, times by size and slow links."""
    operations = run.answer(measure_bandwidth, steps).operations
    return fit_lines(operations), time_by_size(operations), slow_links(run, steps)


def calibrated_operations(points: Sequence[CalibrationPoint]) -> pa.Table:
    """The points as rows of `Bandwidth.operations`, with what a fit needs."""
    times = np.array([point.ns for point in points], np.float64)
    return pa.table(
        {
            "group": pa.array([point.group for point in points], pa.string()),
            "dim": pa.array([point.dim for point in points], pa.string()),
            "op": pa.array([point.op for point in points], pa.string()),
            "n": pa.array([point.n for point in points], pa.int32()),
            "bytes": pa.array([point.bytes for point in points], pa.int64()),
            "transfer_ns": np.maximum(times.round(), 1).astype(np.int64),
            "unwatched_ns": np.zeros(len(points), np.int64),
        }
    )
