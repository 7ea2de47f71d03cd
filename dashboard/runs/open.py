"""Open a run directory: find its files, read what is readable, say what is wrong with the rest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.alignment import align
from dashboard.runs.caches import Fingerprint, fingerprint
from dashboard.runs.columns import numbers
from dashboard.runs.files import event_files, holds_events
from dashboard.runs.foreign import imported
from dashboard.runs.horizon import recorded_until
from dashboard.runs.opened import KEPT_BYTES, MANY_EVENTS, Opened, recall, remember
from dashboard.runs.problems import Problem, problem_of
from dashboard.runs.recording import (
    Recording,
    clock_problem,
    on_common_clock,
    steps_of,
)
from dashboard.runs.skimming import for_clocks, operations_looked_at
from dashboard.runs.stream_tables import StreamTables, Take
from dashboard.runs.words import have
from tracer.errors import DamagedTrace, NewerFormat, TraceError
from tracer.run_files import RankFacts, RunMeta, read_rank_facts, read_run_meta
from tracer.schema import EVENT_SCHEMA, RUN_FILE, clock_file, events_file, facts_file
from tracer.streams import Keep, StreamContent, read_stream

_LISTED: Final = 8
"""Missing ranks in a row that are named one by one."""
_NAMED_AT_MOST: Final = 16
"""Files in one message: with all 10,000 of them it could not be read."""

MOST_AT_ONCE: Final = 1_000_000
"""Bytes of event files whose events are held in memory together: some 20 MB when unpacked."""

AnyRecording = TypeVar("AnyRecording", bound=Recording)


def open_recording(
    path: str | os.PathLike[str], make: type[AnyRecording], *, whole_steps: bool = False
) -> AnyRecording:
    """Open the run in directory `path` as a `make`: a `Recording`, or what is built on it.

    A file or directory of another tool's recordings is imported into the cache and opened there.

    whole_steps: leave out what each rank began after its last step, which more may be added to.
    What is damaged or missing is left out and named in its `problems`.

    Raises:
        TraceError: there is no such directory, it holds no run, or it mixes several runs.
        NewerFormat: a newer Rankscope wrote it.
    """
    directory = Path(path)
    made = None if holds_events(directory) else imported(directory)
    directory = made or directory
    files = event_files(directory)
    if whole_steps:
        return _read(directory, files, make, whole_steps=True)
    seen = fingerprint(directory)
    known = recall(directory, seen)
    fresh = known is None
    if known is None and sum(path.stat().st_size for path in files.values()) > MOST_AT_ONCE:
        known = _skimmed(directory, files)
    run = _read(directory, files, make) if known is None else recalled(known, directory, make, seen)
    run.files = seen
    if fresh and (made is not None or run.event_count >= MANY_EVENTS):
        remember(run)
    return run


def _read(
    directory: Path, files: dict[int, Path], make: type[AnyRecording], *, whole_steps: bool = False
) -> AnyRecording:
    """All of the run."""
    found = _gather(
        directory, files, _until_last_step if whole_steps else lambda rank, table: table
    )
    return make(path=directory, **found)


def _gather(
    directory: Path,
    files: dict[int, Path],
    keep: Callable[[int, pa.Table], pa.Table],
    keep_of_part: Callable[[int, pa.Table], pa.Table] = lambda rank, rows: rows,
) -> dict[str, Any]:
    """What a `Recording` is made of, and of each rank's events what `keep` makes of them, or of
    what `keep_of_part` has left of them as they were read.
    """
    problems: list[Problem] = []
    streams = _read_streams(files, problems, keep, keep_of_part)
    run_id = _single_run(streams)
    of_facts: list[Problem] = []
    facts = {
        rank: facts_of(stream.path, rank, run_id, of_facts) for rank, stream in streams.items()
    }
    world_size = max(max(files) + 1, *(found.world_size for found in facts.values()))
    meta = meta_of(directory, run_id, files, world_size, problems)
    report_missing(meta, files, problems)
    problems += of_facts
    return {
        "meta": meta,
        "facts": facts,
        "tables": {rank: stream.table for rank, stream in streams.items()},
        "clocks": clocks_of(directory, run_id, streams, problems),
        "until": recorded_until(directory, facts),
        "problems": tuple(problems),
    }


def _skimmed(directory: Path, files: dict[int, Path]) -> Opened:
    """The same, with the events of a part of one rank in memory at a time."""
    rows: Counter[int] = Counter()
    starts: dict[int, int] = {}
    steps: dict[int, set[int]] = {}
    every = operations_looked_at(files.values())

    def note(rank: int, part: pa.Table) -> pa.Table:
        rows[rank] += part.num_rows
        if part.num_rows:
            start = int(numbers(part["start"]).min())
            starts[rank] = min(starts.get(rank, start), start)
        steps.setdefault(rank, set()).update(steps_of(part))
        return for_clocks(part, every)

    # of all parts together, what begins first and ends last is less than of each
    found = _gather(directory, files, lambda rank, table: for_clocks(table, every), note)
    clock = align(found["tables"], found["facts"], found["clocks"])

    def common(rank: int, raw: int) -> int:
        return int(clock.maps[rank].to_common(np.array([raw], np.int64))[0])

    begin = min(
        (common(rank, raw) for rank, raw in starts.items() if rank in clock.maps), default=0
    )
    return Opened(
        run_id=found["meta"].run_id,
        ranks=tuple(sorted(found["tables"])),
        event_count=sum(rows[rank] for rank in found["tables"]),
        problems=found["problems"] + clock_problem(clock),
        clock=clock,
        begin=begin,
        steps=tuple(sorted(set.intersection(*(steps[rank] for rank in found["tables"])))),
        recorded_until={rank: common(rank, raw) - begin for rank, raw in found["until"].items()},
    )


def recalled(
    known: Opened,
    directory: Path,
    make: type[AnyRecording],
    seen: Fingerprint,
    *,
    kept_bytes: int = KEPT_BYTES,
) -> AnyRecording:
    """The run of which all but its events is known; these are read rank by rank when they are asked
    for, and kept as far as `kept_bytes` hold.
    """
    files = event_files(directory)
    said: list[Problem] = []  # they are in `known` already
    facts = {rank: facts_of(files[rank], rank, known.run_id, said) for rank in known.ranks}
    world_size = max(max(files) + 1, *(found.world_size for found in facts.values()))

    def events(rank: int) -> pa.Table:
        return prepared(rank, _events_of(rank, files[rank]))

    def part(rank: int, columns: Collection[str], keep: Keep) -> pa.Table:
        if is_damaged(rank):
            return events(rank)
        return prepared(rank, whole(rank, columns, keep))

    def in_parts(rank: int, columns: Collection[str], take: Take) -> None:
        names = ["rank", *columns]

        def hand_over(rows: pa.Table) -> pa.Table:
            take(on_common_clock(rows, rank, known.clock.maps[rank], known.begin).select(names))
            return pa.Table.from_batches([], schema=rows.schema)

        if is_damaged(rank):
            unchanged(_events_of(rank, files[rank], keep=hand_over))
        else:
            unchanged(whole(rank, columns, hand_over))

    def is_damaged(rank: int) -> bool:
        """Of such a rank, which rows can be is only said by all of its columns."""
        name = files[rank].name
        return any((found.file, found.rank) == (name, rank) for found in known.problems)

    def whole(rank: int, columns: Collection[str], keep: Keep) -> StreamContent:
        names = [n for n in EVENT_SCHEMA.names if n in {*columns, "start", "duration"}]
        stream = _events_of(rank, files[rank], columns=names, keep=keep)
        if stream.problem or stream.left_out:
            raise _changed(files[rank])
        return stream

    def prepared(rank: int, stream: StreamContent) -> pa.Table:
        unchanged(stream)
        return on_common_clock(stream.table, rank, known.clock.maps[rank], known.begin)

    def unchanged(stream: StreamContent) -> None:
        facts = stream.path.stat()
        if [facts.st_size, facts.st_mtime_ns] != seen[stream.path.name]:
            raise _changed(stream.path)

    return make.recalled(
        path=directory,
        meta=meta_of(directory, known.run_id, files, world_size, said),
        facts=facts,
        problems=known.problems,
        clock=known.clock,
        begin=known.begin,
        tables=StreamTables(
            known.ranks,
            events,
            part,
            in_parts,
            event_count=known.event_count,
            kept_bytes=kept_bytes,
        ),
        event_count=known.event_count,
        steps=known.steps,
        recorded_until=known.recorded_until,
    )


def _changed(path: Path) -> DamagedTrace:
    return DamagedTrace(f"{path}: has changed since the run was opened; open the run again")


def _until_last_step(rank: int, table: pa.Table) -> pa.Table:
    """The events that began before the last step ended; all of them where there is none."""
    steps = table.filter(have(table["kind"], ("step",)))
    end = pc.max(pc.add(steps["start"], steps["duration"]))
    return table.filter(pc.less(table["start"], end)) if end.is_valid else table


def clocks_of(
    directory: Path, run_id: str, ranks: Collection[int], problems: list[Problem]
) -> dict[int, pa.Table]:
    """The comparisons of clocks that ranks made; what is unreadable or of another run is said."""
    clocks = {}
    for rank in ranks:
        path = directory / clock_file(rank)
        if not path.exists():
            continue
        try:
            stream = read_stream(path, "clock")
        except (TraceError, OSError) as error:
            said = f"{_without(path, error)}; this rank's comparisons of clocks are left out"
            problems.append(problem_of(path, rank, said))
            continue
        if (stream.run_id, stream.rank) != (run_id, rank):
            said = f"is of rank {stream.rank} of run {stream.run_id}, and left out"
            problems.append(problem_of(path, rank, said))
        else:
            clocks[rank] = stream.table
    return clocks


def _read_streams(
    files: dict[int, Path],
    problems: list[Problem],
    keep: Callable[[int, pa.Table], pa.Table],
    keep_of_part: Callable[[int, pa.Table], pa.Table],
) -> dict[int, StreamContent]:
    streams: dict[int, StreamContent] = {}
    for rank, path in files.items():
        try:
            streams[rank] = _events_of(rank, path, keep=partial(keep_of_part, rank))
            streams[rank].table = keep(rank, streams[rank].table)
        except NewerFormat:
            raise
        except (TraceError, OSError) as error:
            problems.append(
                problem_of(path, rank, f"{_without(path, error)}; this rank is left out")
            )
            continue
        for damage, kept in (
            (streams[rank].problem, "what lies before is shown"),
            (streams[rank].left_out, "they are left out"),
        ):
            if damage:
                problems.append(problem_of(path, rank, f"{_without(path, damage)}; {kept}"))
    if not streams:
        raise DamagedTrace(
            f"{next(iter(files.values())).parent}: no rank file is readable: "
            + "; ".join(str(problem) for problem in problems[:_NAMED_AT_MOST])
        )
    return streams


def _events_of(rank: int, path: Path, **how: Any) -> StreamContent:
    """The events in `path`, which must be those of `rank`: a copy under another rank's name would
    count one rank twice.
    """
    stream = read_stream(path, "events", **how)
    if stream.rank != rank:
        raise DamagedTrace(
            f"{path}: holds the events of rank {stream.rank}; copy the file of rank {rank} here"
        )
    return stream


def _single_run(streams: dict[int, StreamContent]) -> str:
    first = next(iter(streams.values()))
    for stream in streams.values():
        if stream.run_id != first.run_id:
            raise two_runs(first.path, first.run_id, stream.path, stream.run_id)
    return first.run_id


def meta_of(
    directory: Path, run_id: str, files: dict[int, Path], world_size: int, problems: list[Problem]
) -> RunMeta:
    """What `run.json` in the directory says, or what is known without it."""
    path = directory / RUN_FILE
    try:
        meta = read_run_meta(directory)
    except NewerFormat:
        raise
    except (TraceError, OSError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "missing (rank 0 writes it)" if missing else _without(path, error)
        problems.append(problem_of(path, None, f"{why}; mesh, schedule and config are unknown"))
        return RunMeta(run_id=run_id, world_size=world_size)
    if meta.run_id != run_id:
        raise two_runs(path, meta.run_id, next(iter(files.values())), run_id)
    return meta


def report_missing(meta: RunMeta, files: dict[int, Path], problems: list[Problem]) -> None:
    """Ranks without a file, many in a row as one problem; and files of ranks that cannot be."""
    directory = next(iter(files.values())).parent
    known = [rank for rank in files if rank < meta.world_size]
    for before, after in pairwise([-1, *known, meta.world_size]):
        first, last = before + 1, after - 1
        if last - first >= _LISTED:
            many = f"{events_file(first)} … {events_file(last)}"
            said = "missing; copy them here from the hosts of these ranks. The others are shown"
            problems.append(Problem(file=many, message=said))
            continue
        for rank in range(first, after):
            said = "missing; copy it here from the host of this rank. The others are shown"
            problems.append(problem_of(directory / events_file(rank), rank, said))
    if len(known) < len(files):
        beyond = files[max(files)].name
        said = f"world_size is {meta.world_size:,}, but {beyond} is here; one of them is wrong"
        problems.append(problem_of(directory / RUN_FILE, None, said))


def facts_of(events: Path, rank: int, run_id: str, problems: list[Problem]) -> RankFacts:
    """What the JSON file beside `events` says, or what is known without it."""
    path = events.parent / facts_file(rank)
    try:
        facts = _facts_of(rank, path)
    except (TraceError, OSError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "missing" if missing else _without(path, error)
        problems.append(problem_of(path, rank, f"{why}; host, stages and groups are unknown"))
        return RankFacts(rank=rank, run_id=run_id)
    if facts.run_id != run_id:
        raise two_runs(path, facts.run_id, events, run_id)
    problems += _endings(path, facts)
    return facts


def _facts_of(rank: int, path: Path) -> RankFacts:
    facts = read_rank_facts(path.parent, rank)
    if facts.rank != rank:
        raise DamagedTrace(f"{path}: holds the facts of rank {facts.rank}")
    return facts


def _endings(path: Path, facts: RankFacts) -> Iterator[Problem]:
    """What went wrong while the rank recorded."""
    rank = facts.rank
    if facts.ended is None:
        said = "the rank did not end its trace: it is still recording, or it was killed"
        yield problem_of(path, rank, said)
    elif facts.ended != "closed":
        yield problem_of(path, rank, f"tracing ended early: {facts.ended}")
    if facts.dropped:
        said = f"{facts.dropped:,} events were dropped (oldest first): the writer fell behind"
        yield problem_of(path, rank, said)
    if facts.unseen:
        said = (
            f"{facts.unseen:,} collectives were issued that are not recorded: torch's flight "
            "recorder is off or ran over; raise TORCH_FR_BUFFER_SIZE (default 2000)"
        )
        yield problem_of(path, rank, said)


def two_runs(a: Path, run_a: str, b: Path, run_b: str) -> TraceError:
    """The error for a directory in which there are two."""
    return TraceError(
        f"{a} is of run {run_a}, {b} of run {run_b}: "
        "two runs in one directory; move the files of one of them elsewhere"
    )


def _without(path: Path, error: object) -> str:
    """The message less the path that it begins with: a problem names its file already."""
    return str(error).removeprefix(f"{path}: ")
