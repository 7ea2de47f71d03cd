"""Open a packed run: a directory, or a prefix of an object store, that holds `rank-N.parquet`.

What opening finds (clocks, steps, problems) takes a look at the events of all ranks. `rankscope
gather --pack` leaves it in `packed.json`, so that opening reads that one file; where it is missing
or of other files, the look is taken, rank by rank.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dashboard.runs.alignment import ALIGNED_BY, align
from dashboard.runs.caches import Fingerprint
from dashboard.runs.described import facts_of, meta_of, report_missing, two_runs
from dashboard.runs.horizon import recorded_until
from dashboard.runs.mirror import Advance, fetch, mirror_of, put
from dashboard.runs.open import AnyRecording, clocks_of
from dashboard.runs.opened import (
    KEPT_BYTES,
    MANY_EVENTS,
    LazyTables,
    Opened,
    described,
    opened_from,
    recall,
    remember,
)
from dashboard.runs.packed import NAME, PackedRank, packed_file
from dashboard.runs.packed_tables import PackedTables
from dashboard.runs.problems import Problem, problem_of
from dashboard.runs.recording import clock_problem, steps_of
from dashboard.runs.stores import Store
from tracer.errors import DamagedTrace, NewerFormat, TraceError
from tracer.schema import MAX_RANK, counters_file, events_file

SUMMARY: Final = "packed.json"
_VERSION: Final = 1
_MOST_BYTES: Final = 256 << 20
_SKIMMED: Final = ("start", "kind", "step")


def packed_ranks(seen: Collection[str]) -> dict[int, str]:
    """The ranks that are packed among these files, and their names."""
    matches = ((NAME.fullmatch(name), name) for name in seen)
    found = {int(match[1]): name for match, name in matches if match}
    return {
        rank: name
        for rank, name in sorted(found.items())
        if rank <= MAX_RANK and name == packed_file(rank)
    }


def is_packed(names: Collection[str]) -> bool:
    """Whether a run of these files is packed: where a recording lies as well, that is the run, and
    Parquet beside it is somebody's export.
    """
    streams = (events_file(rank) for name in names if (rank := _rank_of_stream(name)) is not None)
    return bool(packed_ranks(names)) and not any(name in names for name in streams)


def _rank_of_stream(name: str) -> int | None:
    number = name.removeprefix("rank-").removesuffix(".arrows")
    return int(number) if number.isdecimal() and len(number) <= len(str(MAX_RANK)) else None


def open_packed(
    store: Store,
    seen: Fingerprint,
    make: type[AnyRecording],
    *,
    advance: Advance = lambda count: None,
) -> AnyRecording:
    """The packed run whose files were `seen` in `store`.

    Raises:
        TraceError: nothing of it is readable, it mixes several runs, or the store cannot be read.
        NewerFormat: a newer Rankscope wrote it.
    """
    directory = store.directory or mirror_of(store)
    known = recall(directory, seen)
    fresh = known is None
    published = None if store.directory is None and known is not None else _published(store, seen)
    if published is not None and store.directory is None:
        _lay_out(directory, published["small"], seen)
    _bring(store, seen, [name for name in seen if name.endswith(".json")], advance)
    if known is None and published is not None:
        known = opened_from(published["opened"])
    if known is None:
        known = skimmed(store, seen, advance=advance)
    run = open_known(store, seen, known, make)
    if fresh and (store.directory is None or run.event_count >= MANY_EVENTS):
        remember(run)
    return run


def open_known(
    store: Store,
    seen: Fingerprint,
    known: Opened,
    make: type[AnyRecording],
    *,
    kept_bytes: int = KEPT_BYTES,
) -> AnyRecording:
    """The packed run of which all but its events is known; these are fetched when they are asked
    for, and kept as far as `kept_bytes` hold.
    """
    directory = _bring(store, seen, [name for name in seen if name.endswith(".json")])
    files = {rank: directory / packed_file(rank) for rank in known.ranks}
    said: list[Problem] = []  # they are in `known` already
    facts = {rank: facts_of(path, rank, known.run_id, said) for rank, path in files.items()}
    run = make.recalled(
        path=directory,
        meta=meta_of(directory, known.run_id, files, facts, said),
        facts=facts,
        problems=known.problems,
        clock=known.clock,
        begin=known.begin,
        tables=PackedTables(
            known.clock.maps,
            known.begin,
            lambda rank: _rank(store, rank, known.run_id),
            kept_bytes=kept_bytes,
        ),
        event_count=known.event_count,
        steps=known.steps,
        recorded_until=known.recorded_until,
    )
    run.files = seen
    run.source = store.location

    def bring(names: Collection[str]) -> None:
        _bring(store, seen, names)

    run.bring = bring
    return run


def skimmed(store: Store, seen: Fingerprint, *, advance: Advance = lambda count: None) -> Opened:
    """What opening finds: one look at some columns of each rank, two where ranks ran on several
    hosts, whose clocks are then aligned.
    """
    small = [name for name in seen if name.endswith((".json", ".clock.arrows"))]
    directory = _bring(store, seen, small, advance)
    problems: list[Problem] = []
    packed = _readable(store, seen, problems)
    run_id = _single_run(packed)
    files = {rank: directory / packed_file(rank) for rank in packed}
    of_facts: list[Problem] = []
    facts = {rank: facts_of(path, rank, run_id, of_facts) for rank, path in files.items()}
    meta = meta_of(directory, run_id, files, facts, problems)
    report_missing(meta, files, problems)
    problems += of_facts
    clocks = clocks_of(directory, run_id, files, problems)
    begins, steps, rows = {}, [], 0
    for rank, found in packed.items():
        table = found.read(range(len(found.ends)), _SKIMMED)
        steps.append(steps_of(table))
        rows += table.num_rows
        if table.num_rows:
            begins[rank] = table["start"][0].as_py()

    def columns(rank: int) -> pa.Table:
        return packed[rank].read(range(len(packed[rank].ends)), ALIGNED_BY)

    clock = align(LazyTables(tuple(packed), columns, kept_bytes=0), facts, clocks)
    begin = min((_moved(clock.maps[r], raw) for r, raw in begins.items()), default=0)
    open_ended = [rank for rank, known in facts.items() if known.ended != "closed"]
    _bring(store, seen, [counters_file(rank) for rank in open_ended], advance)
    return Opened(
        run_id=run_id,
        ranks=tuple(packed),
        event_count=rows,
        problems=(*problems, *clock_problem(clock)),
        clock=clock,
        begin=begin,
        steps=tuple(sorted(set.intersection(*steps))),
        recorded_until={
            rank: _moved(clock.maps[rank], raw) - begin
            for rank, raw in recorded_until(directory, facts).items()
        },
    )


def publish(store: Store) -> Opened:
    """Leave in the store what opening it finds, and its small files in one."""
    seen = store.names()
    known = skimmed(store, seen)
    small = {name: store.read(name).decode() for name in seen if _is_small(name)}
    said = {
        "version": _VERSION,
        "files": _sizes(seen),
        "opened": described(known),
        "small": small,
    }
    store.write(SUMMARY, json.dumps(said).encode())
    return known


def _published(store: Store, seen: Fingerprint) -> dict[str, Any] | None:
    """What `publish` left, if it is of these files."""
    if seen.get(SUMMARY, [_MOST_BYTES])[0] >= _MOST_BYTES:
        return None
    try:
        said: dict[str, Any] = json.loads(store.read(SUMMARY))
        if said["version"] != _VERSION or said["files"] != _sizes(seen):
            return None
        opened_from(said["opened"])
        texts = [text for pair in said["small"].items() for text in pair]
        return said if all(isinstance(text, str) for text in texts) else None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, FileNotFoundError):
        return None


def _lay_out(directory: Path, small: Mapping[str, str], seen: Fingerprint) -> None:
    """The small files of a store, as if they had been fetched one by one."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in small.items():
        content = text.encode()
        if _is_small(name) and name in seen and seen[name][0] == len(content):
            put(directory, name, content, seen[name])


def _bring(
    store: Store,
    seen: Fingerprint,
    names: Collection[str],
    advance: Advance = lambda count: None,
) -> Path:
    """Have these files on the local disk."""
    if store.directory is not None:
        return store.directory
    return fetch(store, seen, [name for name in names if name != SUMMARY], advance=advance)


def _is_small(name: str) -> bool:
    return name.endswith(".json") and name != SUMMARY


def _sizes(seen: Fingerprint) -> dict[str, int]:
    """The files that opening looks at. Times are left out: a copy has others."""
    return {
        name: facts[0]
        for name, facts in seen.items()
        if NAME.fullmatch(name) or _is_small(name) or name.endswith(".clock.arrows")
    }


def _readable(store: Store, seen: Fingerprint, problems: list[Problem]) -> dict[int, PackedRank]:
    found: dict[int, PackedRank] = {}
    for rank, name in packed_ranks(seen).items():
        try:
            packed = PackedRank(store, name)
            if packed.rank != rank:
                raise DamagedTrace(f"holds the events of rank {packed.rank}")
        except NewerFormat:
            raise
        except TraceError as error:
            said = str(error).removeprefix(f"{store}/{name}: ")
            problems.append(problem_of(Path(name), rank, f"{said}; this rank is left out"))
            continue
        found[rank] = packed
        for damage, kept in (
            (packed.problem, "what lies before is shown"),
            (packed.left_out, "they are left out"),
        ):
            if damage:
                problems.append(problem_of(Path(name), rank, f"{damage}; {kept}"))
    if not found:
        said = "; ".join(str(problem) for problem in problems[:16])
        raise DamagedTrace(f"{store}: no packed rank is readable: {said}")
    return found


def _single_run(packed: Mapping[int, PackedRank]) -> str:
    first = next(iter(packed.values()))
    for other in packed.values():
        if other.run_id != first.run_id:
            raise two_runs(Path(first.name), first.run_id, Path(other.name), other.run_id)
    return first.run_id


def _rank(store: Store, rank: int, run_id: str) -> PackedRank:
    packed = PackedRank(store, packed_file(rank))
    if (packed.rank, packed.run_id) != (rank, run_id):
        raise DamagedTrace(f"{store}/{packed.name}: has changed since; open the run again")
    return packed


def _moved(clock: Any, raw: int) -> int:
    return int(clock.to_common(np.array([raw]))[0])
