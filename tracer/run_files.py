"""The JSON files of a run: `run.json` (the whole run) and `rank-00000.json` (one rank).

They hold what is known once, not per event. Writing is atomic (a reader never sees half a file);
reading checks every field and names the file in its error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tracer.errors import DamagedTrace, NewerFormat, NotATrace
from tracer.json_values import (
    key,
    mapping,
    number,
    read_object,
    sequence,
    strict_json,
    text,
    whole,
)
from tracer.schema import FORMAT_NAME, FORMAT_VERSION, MAX_RANK, RUN_FILE, facts_file
from tracer.text import plain_text

_INT32: Final = (1 << 31) - 1
_EVENTS: Final = 1 << 62
"""More than can be counted in a lifetime."""


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
class Source:
    """Of a run that was imported: the format it comes from, and what that does not hold, a sentence
    each. Times count from `epoch_ns` on the source's own clock.
    """

    format: str
    lacks: tuple[str, ...] = ()
    epoch_ns: int = 0


@dataclass(kw_only=True, slots=True, frozen=True)
class RunMeta:
    """What `run.json` holds. `link_peaks` is GB/s (1e9 bytes per second) by mesh dimension.

    `source` is None for a run that Rankscope recorded.
    """

    run_id: str
    world_size: int
    created: str = ""
    mesh: Mesh | None = None
    schedule: SchedulePlan | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    link_peaks: Mapping[str, float] = field(default_factory=dict)
    simulated: bool = False
    source: Source | None = None


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
    `keep_last`: of a black box, how many steps it held; 0 where everything was written.
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
    keep_last: int = 0
    world_size: int = 0


def write_run_meta(directory: Path, meta: RunMeta) -> None:
    """Write `run.json` atomically."""
    head = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION}
    write_json(directory / RUN_FILE, head | asdict(meta))


def write_rank_facts(directory: Path, facts: RankFacts) -> None:
    """Write `rank-00000.json` of that rank atomically."""
    write_json(directory / facts_file(facts.rank), asdict(facts))


def read_run_meta(directory: Path) -> RunMeta:
    """Read `run.json`.

    Raises:
        FileNotFoundError: there is none.
        NotATrace, NewerFormat, DamagedTrace: it is not ours, too new, or unreadable.
    """
    path = directory / RUN_FILE
    raw = read_object(path)
    if raw.get("format") != FORMAT_NAME:
        found = plain_text(repr(raw.get("format")))
        raise NotATrace(f"{path}: 'format' is {found}, wanted {FORMAT_NAME!r}")
    version = raw.get("format_version")
    if not (isinstance(version, int) and 1 <= version <= FORMAT_VERSION):
        raise NewerFormat(
            f"{path}: format version {plain_text(repr(version))}, this Rankscope reads up to "
            f"{FORMAT_VERSION}; upgrade with `pip install -U rankscope`"
        )
    return run_meta_of(raw, path)


def run_meta_of(raw: Mapping[str, Any], path: Path) -> RunMeta:
    """What `raw`, JSON from the file `path`, says of a run.

    Raises:
        DamagedTrace: a field is missing or of the wrong type.
    """
    try:
        return RunMeta(
            run_id=text(raw["run_id"]),
            world_size=whole(raw["world_size"], 1, MAX_RANK + 1),
            created=text(raw.get("created", "")),
            mesh=_mesh(raw.get("mesh")),
            schedule=_schedule(raw.get("schedule")),
            config={text(k): v for k, v in mapping(raw.get("config")).items()},
            versions={text(k): text(v) for k, v in mapping(raw.get("versions")).items()},
            link_peaks={text(k): number(v) for k, v in mapping(raw.get("link_peaks")).items()},
            simulated=bool(raw.get("simulated", False)),
            source=_source(raw.get("source")),
        )
    except (KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def read_rank_facts(directory: Path, rank: int) -> RankFacts:
    """Read `rank-00000.json` of one rank.

    Raises:
        FileNotFoundError: there is none.
        DamagedTrace: it is unreadable.
    """
    path = directory / facts_file(rank)
    raw = read_object(path)
    return rank_facts_of(raw, path)


def rank_facts_of(raw: Mapping[str, Any], path: Path) -> RankFacts:
    """What `raw`, JSON from the file `path`, says of a rank.

    Raises:
        DamagedTrace: a field is missing or of the wrong type.
    """
    try:
        return RankFacts(
            rank=whole(raw["rank"], 0, MAX_RANK),
            run_id=text(raw["run_id"]),
            host=text(raw.get("host", "")),
            boot_id=text(raw.get("boot_id", "")),
            pid=whole(raw.get("pid", 0), 0, _INT32),
            device=text(raw.get("device", "cpu")),
            coordinates={
                text(k): whole(v, 0, MAX_RANK) for k, v in mapping(raw.get("coordinates")).items()
            },
            stages=tuple(whole(stage, 0, _INT32) for stage in sequence(raw.get("stages"))),
            groups={text(k): _group(mapping(g)) for k, g in mapping(raw.get("groups")).items()},
            ended=None if raw.get("ended") is None else text(raw["ended"]),
            dropped=whole(raw.get("dropped", 0), 0, _EVENTS),
            unseen=whole(raw.get("unseen", 0), 0, _EVENTS),
            keep_last=whole(raw.get("keep_last", 0), 0, _INT32),
            world_size=whole(raw.get("world_size", 0), 0, MAX_RANK),
        )
    except (KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def _group(raw: Mapping[str, Any]) -> GroupFacts:
    ranks = tuple(whole(rank, 0, MAX_RANK) for rank in sequence(raw["ranks"]))
    return GroupFacts(dim=text(raw["dim"]), ranks=ranks)


def _mesh(raw: Any) -> Mesh | None:
    if raw is None:
        return None
    found = mapping(raw)
    mesh = Mesh(
        names=tuple(text(name) for name in sequence(found["names"])),
        shape=tuple(whole(size, 1, MAX_RANK + 1) for size in sequence(found["shape"])),
        coordinates={
            key(rank, MAX_RANK): tuple(whole(i, 0, MAX_RANK) for i in sequence(place))
            for rank, place in mapping(found["coordinates"]).items()
        },
    )
    lengths = {len(mesh.names), len(mesh.shape), *map(len, mesh.coordinates.values())}
    if len(lengths) != 1:
        raise ValueError("mesh: names, shape and coordinates differ in length")
    return mesh


def _schedule(raw: Any) -> SchedulePlan | None:
    if raw is None:
        return None
    found = mapping(raw)
    return SchedulePlan(
        name=text(found["name"]),
        stages=whole(found["stages"], 1, _INT32),
        microbatches=whole(found["microbatches"], 1, _INT32),
        virtual_stages=whole(found.get("virtual_stages", 1), 1, _INT32),
        pipeline_size=whole(found["pipeline_size"], 1, _INT32),
        plan={
            key(rank, MAX_RANK): tuple(text(action) for action in sequence(actions))
            for rank, actions in mapping(found.get("plan")).items()
        },
    )


def _source(raw: Any) -> Source | None:
    if raw is None:
        return None
    found = mapping(raw)
    return Source(
        format=text(found["format"]),
        lacks=tuple(text(sentence) for sentence in sequence(found.get("lacks"))),
        epoch_ns=whole(found.get("epoch_ns", 0), -_EVENTS, _EVENTS),
    )


def _damaged(path: Path, error: KeyError | ValueError) -> DamagedTrace:
    said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return DamagedTrace(f"{path}: field missing or of the wrong type ({said})")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON file atomically: a reader sees the old one or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(strict_json(content, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
