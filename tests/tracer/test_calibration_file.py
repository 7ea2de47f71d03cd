"""calibration.json: what is written is read, and what is not ours is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.calibrations import calibration
from tracer.calibration_file import read_calibration, write_calibration
from tracer.errors import DamagedTrace, NewerFormat, NotATrace, TraceError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = calibration([{"bytes": 8, "ns": 12.5, "src": 0, "dst": 1}, {"bytes": 9, "ns": 1.0}])
    write_calibration(tmp_path / "c.json", written)
    assert read_calibration(tmp_path / "c.json") == written


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"format": "other"}, NotATrace, "wanted 'rankscope-calibration'"),
        ({"format_version": 2}, NewerFormat, "calibrate anew"),
        ({"points": 3}, DamagedTrace, "wanted a list"),
        ({"hosts": [1]}, DamagedTrace, "wanted text"),
        ({"points": [{"group": "a"}]}, DamagedTrace, "is missing"),
        ({"points": [{"op": "all_reduce", "ns": 0}]}, DamagedTrace, "some time"),
        ({"points": [{"op": "p2p", "ns": 1e-300}]}, DamagedTrace, "some time"),
        ({"points": [{"op": "p2p", "ns": 1e200}]}, DamagedTrace, "some time"),
        ({"points": [{"op": "barrier", "ns": 1}]}, DamagedTrace, "wanted one of"),
        ({"points": [{"op": "p2p", "ns": float("nan")}]}, DamagedTrace, "finite"),
    ],
)
def test_what_is_not_ours_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[TraceError], said: str
) -> None:
    path = tmp_path / "c.json"
    write_calibration(path, calibration([]))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=said) as raised:
        read_calibration(path)
    assert str(path) in str(raised.value)
