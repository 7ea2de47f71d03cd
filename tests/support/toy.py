"""Write a run directory by hand: traces small enough to check on paper, in the real format.

Times are given in the unit that suits the paper; `scale` turns them into ns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracer.columns import Batches
from tracer.schema import (
    COUNTER_SCHEMA,
    EVENT_SCHEMA,
    FORMAT_NAME,
    FORMAT_VERSION,
    RUN_FILE,
    counters_file,
    events_file,
    facts_file,
)
from tracer.streams import StreamWriter


@dataclass(kw_only=True, slots=True, frozen=True)
class Event:
    """One row of a rank file; what is None is null there."""

    start: int
    duration: int
    kind: str
    name: str = ""
    lane: str = "host:main"
    step: int | None = 0
    stage: int | None = None
    microbatch: int | None = None
    group: str | None = None
    seq: int | None = None
    peer: int | None = None
    bytes: int | None = None
    count: int | None = None
    dtype: str | None = None
    correlation: int | None = None
    flops: int | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class RankFacts:
    """What `rank-00000.json` says of one rank."""

    coordinates: Mapping[str, int]
    stages: Sequence[int] = ()
    groups: Mapping[str, Mapping[str, Any]] | None = None
    host: str = "toyhost"
    boot_id: str = "toyboot"
    ended: str | None = "closed"
    dropped: int = 0
    last_flush: int | None = None
    """In the unit of the events; written as the time of a counter."""


def write_run(
    path: Path,
    events: Mapping[int, Sequence[Event]],
    *,
    facts: Mapping[int, RankFacts] | None = None,
    world_size: int | None = None,
    mesh: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    link_peaks: Mapping[str, float] | None = None,
    run_id: str = "toy",
    scale: int = 1,
) -> Path:
    """Write the files of a run; returns `path`."""
    path.mkdir(parents=True, exist_ok=True)
    run = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "run_id": run_id,
        "created": "2026-01-01T00:00:00+00:00",
        "world_size": len(events) if world_size is None else world_size,
        "mesh": mesh,
        "schedule": schedule,
        "config": dict(config or {}),
        "versions": {},
        "link_peaks": dict(link_peaks or {}),
        "simulated": True,
    }
    (path / RUN_FILE).write_text(json.dumps(run))
    for rank, rows in events.items():
        _write_rank(path, rank, rows, run_id=run_id, scale=scale)
        known = (facts or {}).get(rank, RankFacts(coordinates={"pp": rank}, stages=(rank,)))
        (path / facts_file(rank)).write_text(json.dumps(_facts(rank, run_id, known)))
        if known.last_flush is not None:
            flushed = (known.last_flush * scale, "recorder.events", 0.0)
            write_counters(path, rank, [flushed], run_id=run_id)
    return path


def write_counters(
    path: Path, rank: int, rows: Sequence[tuple[int, str, float]], run_id: str = "toy"
) -> None:
    """The counters of a rank: (ns, name, value)."""
    writer = StreamWriter(
        path / counters_file(rank), COUNTER_SCHEMA, "counters", run_id=run_id, rank=rank
    )
    columns = dict(zip(COUNTER_SCHEMA.names, map(list, zip(*rows, strict=True)), strict=True))
    writer.write(Batches(COUNTER_SCHEMA).batch(columns))
    writer.close()


def _write_rank(path: Path, rank: int, rows: Sequence[Event], *, run_id: str, scale: int) -> None:
    columns = {name: [getattr(row, name) for row in rows] for name in EVENT_SCHEMA.names}
    for name in ("start", "duration"):
        columns[name] = [value * scale for value in columns[name]]
    writer = StreamWriter(
        path / events_file(rank), EVENT_SCHEMA, "events", run_id=run_id, rank=rank
    )
    writer.write(Batches(EVENT_SCHEMA).batch(columns))
    writer.close()


def _facts(rank: int, run_id: str, known: RankFacts) -> dict[str, Any]:
    return {
        "rank": rank,
        "run_id": run_id,
        "host": known.host,
        "boot_id": known.boot_id,
        "pid": 1000 + rank,
        "device": "cpu",
        "coordinates": dict(known.coordinates),
        "stages": list(known.stages),
        "groups": {k: dict(v) for k, v in (known.groups or {}).items()},
        "ended": known.ended,
        "dropped": known.dropped,
    }
