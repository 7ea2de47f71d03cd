"""Open a run directory: find its files, read what is readable, say what is wrong with the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.alignment import Aligner
from dashboard.runs.caches import Fingerprint, fingerprint
from dashboard.runs.contents import Contents, Survey
from dashboard.runs.described import facts_of, known_facts, meta_of, report_missing, two_runs
from dashboard.runs.files import event_files, holds_events
from dashboard.runs.foreign import imported
from dashboard.runs.horizon import recorded_until
from dashboard.runs.opened import KEPT_BYTES, MANY_EVENTS, Opened, recall, remember
from dashboard.runs.problems import Problem, less_its_file, problem_of
from dashboard.runs.recording import (
    Recording,
    clock_problem,
    on_common_clock,
)
from dashboard.runs.skimming import Skim, SkimWritten, for_clocks, operations_looked_at
from dashboard.runs.stream_tables import StreamTables, Take
from dashboard.runs.words import have
from tracer.errors import DamagedTrace, NewerFormat, TraceError
from tracer.run_files import read_run_meta
from tracer.schema import EVENT_SCHEMA, clock_file
from tracer.streams import Keep, StreamContent, read_stream

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
    written = SkimWritten()
    made = None if holds_events(directory) else imported(directory, written.watch)
    directory = made or directory
    files = event_files(directory)
    if whole_steps:
        return _read(directory, files, make, whole_steps=True)
    seen = fingerprint(directory)
    known = recall(directory, seen)
    fresh = known is None
    if known is None and sum(path.stat().st_size for path in files.values()) > MOST_AT_ONCE:
        known = _skimmed(directory, files, written)
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
    tables = {rank: stream.table for rank, stream in streams.items()}
    return _besides(directory, files, _single_run(streams), tables, problems)


def _besides(
    directory: Path,
    files: dict[int, Path],
    run_id: str,
    tables: dict[int, pa.Table],
    problems: list[Problem],
) -> dict[str, Any]:
    """What a `Recording` is made of: these events, and what the small files say."""
    of_facts: list[Problem] = []
    facts = {rank: facts_of(files[rank], rank, run_id, of_facts) for rank in tables}
    meta = meta_of(directory, run_id, files, facts, problems)
    report_missing(meta, files, problems)
    problems += of_facts
    return {
        "meta": meta,
        "facts": facts,
        "tables": tables,
        "clocks": clocks_of(directory, run_id, tables, problems),
        "until": recorded_until(directory, facts),
        "problems": tuple(problems),
    }


def _skimmed(directory: Path, files: dict[int, Path], written: SkimWritten) -> Opened:
    """The same, with the events of a part of one rank in memory at a time, or of those that were
    just `written` what was seen then.
    """
    every = operations_looked_at(files.values())
    aligner = Aligner(files, known_facts(files))
    seen: Skim = written

    def noted(rank: int, table: pa.Table) -> pa.Table:
        seen.done(rank)
        aligner.note(rank, for_clocks(table, every))
        return pa.Table.from_batches([], table.schema)

    parts = written.tables()
    if parts.keys() == files.keys():
        tables = {rank: noted(rank, parts[rank]) for rank in files}
        found = _besides(directory, files, read_run_meta(directory).run_id, tables, [])
    else:
        seen = Skim(every)
        # of all parts together, what begins first and ends last is less than of each
        found = _gather(directory, files, noted, seen.note)
    clock = aligner.aligned(found["tables"], found["clocks"])

    def common(rank: int, raw: int) -> int:
        return int(clock.maps[rank].to_common(np.array([raw], np.int64))[0])

    begin = min(
        (common(rank, raw) for rank, raw in seen.begins.items() if rank in clock.maps), default=0
    )
    return Opened(
        run_id=found["meta"].run_id,
        ranks=tuple(sorted(found["tables"])),
        event_count=sum(seen.rows[rank] for rank in found["tables"]),
        problems=found["problems"] + clock_problem(clock),
        clock=clock,
        begin=begin,
        steps=tuple(sorted(seen.complete or ())),
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

    def events(rank: int) -> pa.Table:
        return prepared(rank, _events_of(rank, files[rank]))

    def part(
        rank: int, columns: Collection[str], keep: Keep, batches: Collection[int] | None
    ) -> pa.Table:
        if is_damaged(rank):
            return events(rank)
        return prepared(rank, whole(rank, columns, keep, batches))

    def recorded(rank: int, columns: Collection[str], batches: Collection[int]) -> pa.Table:
        stream = whole(rank, columns, lambda rows: rows, batches)
        unchanged(stream)
        return stream.table

    def contents(rank: int) -> Contents | None:
        if is_damaged(rank):
            return None
        survey = Survey(is_imported=meta.source is not None)
        unchanged(whole(rank, survey.columns, survey.note))
        return survey.contents()

    def in_parts(rank: int, columns: Collection[str], take: Take) -> None:
        names = ["rank", *columns]

        def hand_over(rows: pa.Table) -> pa.Table:
            take(placed(rank, rows).select(names))
            return pa.Table.from_batches([], schema=rows.schema)

        if is_damaged(rank):
            unchanged(_events_of(rank, files[rank], keep=hand_over))
        else:
            unchanged(whole(rank, columns, hand_over))

    def is_damaged(rank: int) -> bool:
        """Of such a rank, which rows can be is only said by all of its columns."""
        name = files[rank].name
        return any((found.file, found.rank) == (name, rank) for found in known.problems)

    def whole(
        rank: int, columns: Collection[str], keep: Keep, batches: Collection[int] | None = None
    ) -> StreamContent:
        names = [n for n in EVENT_SCHEMA.names if n in {*columns, "start", "duration"}]
        stream = _events_of(rank, files[rank], columns=names, keep=keep, batches=batches)
        if stream.problem or stream.left_out:
            raise _changed(files[rank])
        return stream

    def prepared(rank: int, stream: StreamContent) -> pa.Table:
        unchanged(stream)
        return placed(rank, stream.table)

    def placed(rank: int, rows: pa.Table) -> pa.Table:
        return on_common_clock(rows, rank, known.clock.maps[rank], known.begin)

    def unchanged(stream: StreamContent) -> None:
        facts = stream.path.stat()
        if [facts.st_size, facts.st_mtime_ns] != seen[stream.path.name]:
            raise _changed(stream.path)

    meta = meta_of(directory, known.run_id, files, facts, said)
    return make.recalled(
        path=directory,
        meta=meta,
        facts=facts,
        problems=known.problems,
        clock=known.clock,
        begin=known.begin,
        tables=StreamTables(
            known.ranks,
            events,
            part,
            in_parts,
            contents,
            recorded,
            placed,
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
            said = f"{less_its_file(path, error)}; this rank's comparisons of clocks are left out"
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
                problem_of(path, rank, f"{less_its_file(path, error)}; this rank is left out")
            )
            continue
        for damage, kept in (
            (streams[rank].problem, "what lies before is shown"),
            (streams[rank].left_out, "they are left out"),
        ):
            if damage:
                problems.append(problem_of(path, rank, f"{less_its_file(path, damage)}; {kept}"))
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
