"""Read the rows of a recorded run with nothing but Arrow, apart from the code under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer.schema import GARBAGE_COLLECTION

Row = dict[str, Any]


def rows(run: Path, rank: int, *, step: int | None = None, **wanted: Any) -> list[Row]:
    """The events of a rank by start; those of one step, and of these values, if given.

    Garbage collections come when Python has a mind to, and are left out unless asked for by name.
    """
    with pa.OSFile(str(run / f"rank-{rank:05d}.arrows")) as source:
        table = pa.ipc.open_stream(source).read_all()
    found = [
        row
        for row in table.to_pylist()
        if (step is None or row["step"] == step)
        and all(row[name] == value for name, value in wanted.items())
        and (row["name"] != GARBAGE_COLLECTION or "name" in wanted)
    ]
    return sorted(found, key=lambda row: row["start"])


def calls(run: Path, rank: int, *, step: int | None = None) -> list[Row]:
    """One row per communication operation: its call."""
    return [
        row
        for row in rows(run, rank, step=step)
        if row["kind"] in ("collective", "send", "recv") and row["lane"].startswith("host:")
    ]


def steps(run: Path, rank: int = 0) -> list[int]:
    """The steps whose windows are there, in order."""
    return [row["step"] for row in rows(run, rank, kind="step")]


def marks(run: Path, rank: int = 0) -> list[str]:
    """What its markers say, in order."""
    return [row["name"] for row in rows(run, rank, kind="marker")]


def facts(run: Path, rank: int) -> dict[str, Any]:
    """What `rank-NNNNN.json` holds."""
    return _json(run / f"rank-{rank:05d}.json")


def meta(run: Path) -> dict[str, Any]:
    """What `run.json` holds."""
    return _json(run / "run.json")


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
