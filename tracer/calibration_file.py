"""`calibration.json`: times that were measured over the groups of a run, by message size.

`python -m collectors.calibrate` writes it into the run directory, the dashboard reads it. It holds
measurements only: what follows from them (latency, bandwidth, peaks) is computed on reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tracer.errors import DamagedTrace, NewerFormat, NotATrace
from tracer.json_values import mapping, number, read_object, sequence, text, whole
from tracer.run_files import write_json
from tracer.schema import MAX_RANK
from tracer.text import plain_text

CALIBRATION_FILE: Final = "calibration.json"
CALIBRATION_FORMAT: Final = "rankscope-calibration"
CALIBRATION_VERSION: Final = 1
OPS: Final = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")
"""What is measured, in this order; the names are those of the analyses."""

_MOST_BYTES: Final = 1 << 50
_LEAST_NS: Final = 1e-3
_MOST_NS: Final = 1e15
"""Eleven days. Within these two lies every operation, and what is computed of it is finite."""


@dataclass(kw_only=True, slots=True, frozen=True)
class CalibrationPoint:
    """One operation of one group at one size.

    bytes: S of nccl-tests (docs/concepts.md, Bandwidth); ns: of one operation, the median over
    batches that follow each other without a pause, on the slowest member; iterations: operations
    timed. src and dst: of messages, the two ranks (half of a way there and back).
    """

    group: str
    dim: str
    op: str
    n: int
    bytes: int
    ns: float
    iterations: int
    src: int | None = None
    dst: int | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class Calibration:
    """All points, and where they were measured: hosts by name, `cpu` or the GPU's name, backend."""

    run_id: str
    created: str
    world_size: int
    hosts: tuple[str, ...]
    device: str
    backend: str
    versions: Mapping[str, str]
    points: tuple[CalibrationPoint, ...]


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file atomically."""
    head = {"format": CALIBRATION_FORMAT, "format_version": CALIBRATION_VERSION}
    write_json(path, head | asdict(calibration))


def read_calibration(path: Path) -> Calibration:
    """Read the file.

    Raises:
        FileNotFoundError: there is none.
        NotATrace, NewerFormat, DamagedTrace: it is not ours, too new, or unreadable.
    """
    raw = read_object(path)
    if raw.get("format") != CALIBRATION_FORMAT:
        found = plain_text(repr(raw.get("format")))
        raise NotATrace(f"{path}: 'format' is {found}, wanted {CALIBRATION_FORMAT!r}")
    version = raw.get("format_version")
    if version != CALIBRATION_VERSION:
        raise NewerFormat(
            f"{path}: format version {plain_text(repr(version))}, this Rankscope reads "
            f"{CALIBRATION_VERSION}; upgrade it, or calibrate anew"
        )
    try:
        return Calibration(
            run_id=text(raw["run_id"]),
            created=text(raw["created"]),
            world_size=whole(raw["world_size"], 1, MAX_RANK + 1),
            hosts=tuple(text(host) for host in sequence(raw["hosts"])),
            device=text(raw["device"]),
            backend=text(raw["backend"]),
            versions={text(k): text(v) for k, v in mapping(raw["versions"]).items()},
            points=tuple(_point(mapping(point)) for point in sequence(raw["points"])),
        )
    except (KeyError, ValueError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DamagedTrace(
            f"{path}: field missing or of the wrong type ({said}); calibrate anew, or remove it"
        ) from error


def _point(raw: Mapping[str, Any]) -> CalibrationPoint:
    op, ns = text(raw["op"]), number(raw["ns"])
    if op not in OPS or not _LEAST_NS <= ns <= _MOST_NS:
        raise ValueError(f"{op!r} in {ns:g} ns: wanted one of {', '.join(OPS)}, and some time")
    return CalibrationPoint(
        group=text(raw["group"]),
        dim=text(raw["dim"]),
        op=op,
        n=whole(raw["n"], 2, MAX_RANK + 1),
        bytes=whole(raw["bytes"], 1, _MOST_BYTES),
        ns=ns,
        iterations=whole(raw["iterations"], 1, _MOST_BYTES),
        src=_rank(raw.get("src")),
        dst=_rank(raw.get("dst")),
    )


def _rank(value: Any) -> int | None:
    return None if value is None else whole(value, 0, MAX_RANK)
