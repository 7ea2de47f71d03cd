"""Calibrations of a few points, as if they had been measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracer.calibration_file import Calibration, CalibrationPoint

_USUAL = {"group": "pp:0-1", "dim": "pp", "op": "p2p", "n": 2, "iterations": 10}


def calibration(points: Iterable[dict[str, Any]], *, host: str = "toyhost") -> Calibration:
    """The points; what they leave out is that of a message between two ranks."""
    return Calibration(
        run_id="toy",
        created="2026-01-01T00:00:00+00:00",
        world_size=4,
        hosts=(host,),
        device="cpu",
        backend="gloo",
        versions={},
        points=tuple(CalibrationPoint(**(_USUAL | point)) for point in points),
    )
