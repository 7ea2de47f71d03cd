"""What the JSON files of a run say: of the run, of each rank, and which ranks have no file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from dashboard.runs.problems import Problem, less_its_file, problem_of
from tracer.errors import DamagedTrace, NewerFormat, TraceError
from tracer.run_files import RankFacts, RunMeta, read_rank_facts, read_run_meta
from tracer.schema import RUN_FILE, events_file, facts_file

_LISTED: Final = 8
"""Missing ranks in a row that are named one by one."""


def meta_of(
    directory: Path,
    run_id: str,
    files: Mapping[int, Path],
    facts: Mapping[int, RankFacts],
    problems: list[Problem],
) -> RunMeta:
    """What `run.json` in the directory says, or what the ranks' facts and files tell without it."""
    path = directory / RUN_FILE
    try:
        meta = read_run_meta(directory)
    except NewerFormat:
        raise
    except (TraceError, OSError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "missing (rank 0 writes it)" if missing else less_its_file(path, error)
        told = max((known.world_size for known in facts.values()), default=0)
        unknown = "mesh, schedule and config" if told else "mesh, schedule, config and world size"
        problems.append(problem_of(path, None, f"{why}; {unknown} are unknown"))
        return RunMeta(run_id=run_id, world_size=max(max(files) + 1, told))
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
        why = "missing" if missing else less_its_file(path, error)
        problems.append(problem_of(path, rank, f"{why}; host, stages and groups are unknown"))
        return RankFacts(rank=rank, run_id=run_id)
    if facts.run_id != run_id:
        raise two_runs(path, facts.run_id, events, run_id)
    problems += _endings(path, facts)
    return facts


def known_facts(files: Mapping[int, Path]) -> dict[int, RankFacts]:
    """What can be read beside these files of ranks; `facts_of` says what is wrong with the rest."""
    found = {}
    for rank, events in files.items():
        with contextlib.suppress(TraceError, OSError):
            found[rank] = _facts_of(rank, events.parent / facts_file(rank))
    return found


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
