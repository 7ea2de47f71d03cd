"""The JSON files of a run: `run.json` (the whole run) and `rank-00000.json` (one rank).

They hold what is known once, not per event. Writing is atomic (a reader never sees half a file);
reading checks every field and names the file in its error.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tracer.errors import DamagedTrace, NewerFormat, NotATrace
from tracer.schema import FORMAT_NAME, FORMAT_VERSION, RUN_FILE, facts_file

_MAX_JSON_BYTES = 64 << 20
"""A plan of 10,000 ranks is some MB; beyond this the file is not one of ours."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Mesh:
    """The device mesh: `coordinates[rank]` has one index per name, in the order of `names`."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    coordinates: Mapping[int, tuple[int, ...]]


@dataclass(kw_only=True, slots=True, frozen=True)
class SchedulePlan:
    """A pipeline schedule: `plan[pipeline rank]` lists its actions in torch's notation (`0F3`)."""

    name: str
    stages: int
    microbatches: int
    virtual_stages: int
    pipeline_size: int
    plan: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True, frozen=True)
class RunMeta:
    """What `run.json` holds. `link_peaks` is GB/s (1e9 bytes per second) by mesh dimension."""

    run_id: str
    world_size: int
    created: str = ""
    mesh: Mesh | None = None
    schedule: SchedulePlan | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    link_peaks: Mapping[str, float] = field(default_factory=dict)
    simulated: bool = False


@dataclass(kw_only=True, slots=True, frozen=True)
class GroupFacts:
    """One process group: the mesh dimension it spans and its global ranks, sorted."""

    dim: str
    ranks: tuple[int, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class RankFacts:
    """What one rank knows of itself. `ended` is None while it records (or if it was killed),
    `closed` after a proper end, `failed: <why>` when tracing stopped by a fault of its own.
    `dropped` events were recorded and lost; `unseen` collectives were issued and not recorded.
    `world_size` is 0 where it is not known.
    """

    rank: int
    run_id: str
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    device: str = "cpu"
    coordinates: Mapping[str, int] = field(default_factory=dict)
    stages: tuple[int, ...] = ()
    groups: Mapping[str, GroupFacts] = field(default_factory=dict)
    ended: str | None = None
    dropped: int = 0
    unseen: int = 0
    world_size: int = 0


def write_run_meta(directory: Path, meta: RunMeta) -> None:
    """Write `run.json` atomically."""
    head = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION}
    _write_json(directory / RUN_FILE, head | asdict(meta))


def write_rank_facts(directory: Path, facts: RankFacts) -> None:
    """Write `rank-00000.json` of that rank atomically."""
    _write_json(directory / facts_file(facts.rank), asdict(facts))


def read_run_meta(directory: Path) -> RunMeta:
    """Read `run.json`.

    Raises:
        FileNotFoundError: there is none.
        NotATrace, NewerFormat, DamagedTrace: it is not ours, too new, or unreadable.
    """
    path = directory / RUN_FILE
    raw = _read_json(path)
    if raw.get("format") != FORMAT_NAME:
        raise NotATrace(f"{path}: 'format' is {raw.get('format')!r}, wanted {FORMAT_NAME!r}")
    version = raw.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise NewerFormat(
            f"{path}: format version {version}, this Rankscope reads up to {FORMAT_VERSION}; "
            "upgrade with `pip install -U rankscope`"
        )
    try:
        return RunMeta(
            run_id=str(raw["run_id"]),
            world_size=int(raw["world_size"]),
            created=str(raw.get("created", "")),
            mesh=_mesh(raw.get("mesh")),
            schedule=_schedule(raw.get("schedule")),
            config=dict(raw.get("config") or {}),
            versions={str(k): str(v) for k, v in (raw.get("versions") or {}).items()},
            link_peaks={str(k): float(v) for k, v in (raw.get("link_peaks") or {}).items()},
            simulated=bool(raw.get("simulated", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedTrace(f"{path}: field missing or of the wrong type ({error!r})") from error


def read_rank_facts(directory: Path, rank: int) -> RankFacts:
    """Read `rank-00000.json` of one rank.

    Raises:
        FileNotFoundError: there is none.
        DamagedTrace: it is unreadable.
    """
    path = directory / facts_file(rank)
    raw = _read_json(path)
    try:
        return RankFacts(
            rank=int(raw["rank"]),
            run_id=str(raw["run_id"]),
            host=str(raw.get("host", "")),
            boot_id=str(raw.get("boot_id", "")),
            pid=int(raw.get("pid", 0)),
            device=str(raw.get("device", "cpu")),
            coordinates={str(k): int(v) for k, v in (raw.get("coordinates") or {}).items()},
            stages=tuple(int(stage) for stage in raw.get("stages") or ()),
            groups={
                str(name): GroupFacts(dim=str(g["dim"]), ranks=tuple(int(r) for r in g["ranks"]))
                for name, g in (raw.get("groups") or {}).items()
            },
            ended=None if raw.get("ended") is None else str(raw["ended"]),
            dropped=int(raw.get("dropped", 0)),
            unseen=int(raw.get("unseen", 0)),
            world_size=int(raw.get("world_size", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedTrace(f"{path}: field missing or of the wrong type ({error!r})") from error


def _mesh(raw: Any) -> Mesh | None:
    if raw is None:
        return None
    return Mesh(
        names=tuple(str(name) for name in raw["names"]),
        shape=tuple(int(size) for size in raw["shape"]),
        coordinates={int(r): tuple(int(i) for i in c) for r, c in raw["coordinates"].items()},
    )


def _schedule(raw: Any) -> SchedulePlan | None:
    if raw is None:
        return None
    return SchedulePlan(
        name=str(raw["name"]),
        stages=int(raw["stages"]),
        microbatches=int(raw["microbatches"]),
        virtual_stages=int(raw.get("virtual_stages", 1)),
        pipeline_size=int(raw["pipeline_size"]),
        plan={int(r): tuple(str(a) for a in p) for r, p in (raw.get("plan") or {}).items()},
    )


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise DamagedTrace(f"{path}: larger than {_MAX_JSON_BYTES >> 20} MB, not one of our files")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedTrace(f"{path}: not valid JSON ({error})") from error
    if not isinstance(raw, dict):
        raise DamagedTrace(f"{path}: holds {type(raw).__name__}, wanted a JSON object")
    return raw


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
