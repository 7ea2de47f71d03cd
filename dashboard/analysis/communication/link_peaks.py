"""What the links of each mesh dimension can carry, and where that number is from.

In this order: said by the user, recorded with the run (`link_peaks` of the tracer), measured by
`rankscope calibrate`, what the hardware could carry (topology_peaks.py). Utilization is the
skew-free busbw over that peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from dashboard.analysis.communication.bandwidth import BUS_FACTORS, Bandwidth
from dashboard.analysis.results import Result
from tracer.calibration_file import Calibration

GIVEN: Final = "given"
RECORDED: Final = "recorded"
CALIBRATED: Final = "calibrated"
HARDWARE: Final = "hardware"


@dataclass(kw_only=True, frozen=True, slots=True)
class Peak(Result):
    """gbps: GB/s (1e9 B/s) of one link; source: `given`, `recorded`, `calibrated` or `hardware`."""

    gbps: float
    source: str


def link_peaks(
    recorded: Mapping[str, float],
    calibration: Calibration | None = None,
    given: Mapping[str, float] | None = None,
    hardware: Mapping[str, float] | None = None,
) -> dict[str, Peak]:
    """By mesh dimension, GB/s. A calibrated peak is the largest busbw of any operation and size."""
    measured: dict[str, float] = {}
    for point in calibration.points if calibration else ():
        busbw = point.bytes * BUS_FACTORS[point.op](point.n) / point.ns
        measured[point.dim] = max(measured.get(point.dim, 0.0), busbw)
    found = {dim: Peak(gbps=gbps, source=HARDWARE) for dim, gbps in (hardware or {}).items()}
    found |= {dim: Peak(gbps=gbps, source=CALIBRATED) for dim, gbps in measured.items()}
    found |= {dim: Peak(gbps=gbps, source=RECORDED) for dim, gbps in recorded.items() if gbps > 0}
    found |= {dim: Peak(gbps=gbps, source=GIVEN) for dim, gbps in (given or {}).items()}
    return found


def peak_utilization(bandwidth: Bandwidth, peaks: Mapping[str, Peak]) -> pa.Table:
    """group, op, dim, busbw_skew_free and peak (GB/s), source, utilization: a row per row of
    `Bandwidth.summary` whose dimension has a peak and which has a bandwidth.
    """
    rows = [
        {name: row[name] for name in ("group", "op", "dim", "busbw_skew_free")}
        | {"peak": peak.gbps, "source": peak.source}
        | {"utilization": row["busbw_skew_free"] / peak.gbps}
        for row in bandwidth.summary.to_pylist()
        if (peak := peaks.get(row["dim"])) and row["busbw_skew_free"] is not None
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("group", "op", "dim")),
        *((name, pa.float64()) for name in ("busbw_skew_free", "peak")),
        ("source", pa.string()),
        ("utilization", pa.float64()),
    ]
)
