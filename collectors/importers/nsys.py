"""Nsight Systems: kernels, NVTX ranges and NCCL calls from SQLite exports of its reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from collectors.importers.formats import Advance, Format, Option
from collectors.importers.imported_run import ImportedRun
from collectors.importers.labels import STEP_RANGE
from collectors.importers.nsys_database import MAGIC, NsysDatabase
from collectors.importers.nsys_nccl import members, number, users
from collectors.importers.nsys_processes import KERNELS, NVTX, Labels, Process, scan
from collectors.importers.nsys_rows import Target, Window, write_export
from tracer.errors import DamagedTrace, TraceError, UsageError

_NAMED: Final = re.compile(r"rank[_\-.]?([0-9]{1,7})", re.IGNORECASE)
_LAST: Final = re.compile(r"([0-9]{1,7})$")
_LONGEST_PATTERN: Final = 1000


def _read(
    files: Sequence[Path], run: ImportedRun, advance: Advance, *, step_range: str = "", **_: Any
) -> None:
    pattern = _pattern(step_range)
    processes: list[Process] = []
    versions: set[str] = set()
    for path in files:
        with NsysDatabase(path, progress := _Progress(path, advance)) as database:
            _check(database)
            progress.expect(database.size(NVTX, KERNELS))
            processes += _that_work(list(scan(database, pattern).values()))
            version = database.value(
                "META_DATA_EXPORT", "value", "WHERE name = 'EXPORT_PRODUCT_VERSION'"
            )
            versions |= {version} if isinstance(version, str) else set()
        progress.finish()
    if not processes:
        raise TraceError(
            f"{files[0]}: no kernel and no NVTX range in it; profile with --trace=cuda,nvtx"
        )
    if versions:
        run.versions["nsight-systems"] = ", ".join(sorted(versions))
    targets = _targets(run, processes)
    without_call = 0
    for path in files:
        mine = {t.process.number: t for t in targets if t.process.path == path}
        with NsysDatabase(path, progress := _Progress(path, advance)) as database:
            progress.expect(database.size(NVTX, KERNELS))
            without_call += write_export(database, mine, pattern)
        progress.finish()
    _say_what_is_missing(run, targets, without_call)


class _Progress:
    """Tells of half of a file's bytes while as many rows as expected are read: it is read twice."""

    def __init__(self, path: Path, advance: Advance) -> None:
        self._half = path.stat().st_size // 2
        self._advance = advance
        self._rows = self._expected = self._told = 0

    def expect(self, rows: int) -> None:
        """So many rows will be read, about."""
        self._expected = rows

    def __call__(self, rows: int) -> None:
        self._rows += rows
        if self._expected:
            self._tell(self._half * min(self._rows, self._expected) // self._expected)

    def finish(self) -> None:
        """All was read."""
        self._tell(self._half)

    def _tell(self, done: int) -> None:
        self._advance(done - self._told)
        self._told = done


def _pattern(step_range: str) -> re.Pattern[str]:
    if len(step_range) > _LONGEST_PATTERN:
        raise UsageError(f"--step-range: longer than {_LONGEST_PATTERN} characters")
    try:
        return re.compile(step_range or STEP_RANGE, 0 if step_range else re.IGNORECASE)
    except re.error as error:
        said = f"--step-range {step_range!r}: not a regular expression ({error})"
        raise UsageError(said) from error


def _check(database: NsysDatabase) -> None:
    """The columns without which nothing can be read."""
    for table, wanted in ((KERNELS, ("start", "end")), (NVTX, ("start", "end"))):
        missing = [c for c in wanted if not database.has(table, c)]
        if table in database.columns and missing:
            raise DamagedTrace(
                f"{database.path}: table {table} has no column {', '.join(missing)}: no export of "
                "Nsight Systems that we know; export the report again with a current version"
            )
    if KERNELS not in database.columns and NVTX not in database.columns:
        known = ", ".join(sorted(database.columns)[:8]) or "none"
        raise DamagedTrace(
            f"{database.path}: has neither kernels nor NVTX ranges (tables: {known}); profile with "
            "--trace=cuda,nvtx and export with `nsys export --type sqlite`"
        )


def _that_work(processes: list[Process]) -> list[Process]:
    """Those with kernels; if none has any, those with ranges. Others only started them."""
    working = [p for p in processes if p.devices]
    found = working or [p for p in processes if p.steps or p.ranges or p.calls] or processes
    return sorted(found, key=lambda p: (min(p.devices, default=0), p.pid))


def _targets(run: ImportedRun, processes: list[Process]) -> list[Target]:
    ranks, world_size, how = _ranks(processes)
    if how:
        run.lacks(how)
    run.world_size = world_size
    has_epoch = all(process.epoch is not None for process in processes)
    if not has_epoch and len({process.path for process in processes}) > 1:
        run.lacks(
            "when the sessions began (table TARGET_INFO_SESSION_START_TIME): times of different "
            "files compare only as far as collectives align them"
        )
    by_rank = dict(zip(ranks, processes, strict=True))
    groups = members({rank: process.joined for rank, process in by_rank.items()})
    guessed = users({rank: process.calls for rank, process in by_rank.items()}, groups)
    if guessed:
        run.lacks(
            f"who belongs to {len(guessed):,} of NCCL's communicators (they were made before the "
            "capture began): taken to be the ranks that used them, in their order"
        )
    groups |= guessed
    unnumbered = number({rank: process.calls for rank, process in by_rank.items()}, groups)
    if unnumbered:
        run.lacks(
            f"which of NCCL's calls belong together: of {unnumbered:,} nothing tells it (no NVTX "
            "payload, or the ranks made differently many)"
        )
    targets = []
    without_steps = not all(process.steps for process in processes)
    if without_steps:
        run.lacks(
            "steps: not every rank has ranges whose names are those of steps (--step-range), so "
            "the whole recording of each rank is taken as step 0"
        )
    for rank, process in sorted(by_rank.items()):
        base = (process.epoch or 0) if has_epoch else 0
        device = min(process.devices, default=None)
        targets.append(
            Target(
                process=process,
                rank=run.rank(
                    rank,
                    host=process.host,
                    clock=process.host if has_epoch and process.host else str(process.path),
                    device="cpu" if device is None else f"cuda:{device}",
                    pid=process.pid,
                ),
                offset=base,
                windows=[Window(0, process.first, process.last)]
                if without_steps
                else _windows(process.steps),
                groups=groups,
                labels=Labels(process),
            )
        )
    run.relative(min(t.process.first + t.offset for t in targets))
    return targets


def _ranks(processes: Sequence[Process]) -> tuple[list[int], int, str]:
    """The rank of each process, the number of ranks, and what to say if they are guessed."""
    by_mpi = [process.mpi_rank for process in processes]
    if _distinct(by_mpi):
        given = [rank for rank in by_mpi if rank is not None]
        return given, max(given) + 1, ""
    shared = set.intersection(*(set(process.joined) for process in processes))
    largest = max(shared, key=lambda c: processes[0].joined[c][1], default=None)
    if largest is not None:
        places = [process.joined[largest][0] for process in processes]
        if _distinct(places):
            return places, processes[0].joined[largest][1], ""
    if len({process.path for process in processes}) == len(processes):
        for pattern in (_NAMED, _LAST):
            found = [pattern.search(process.path.stem) for process in processes]
            named = [None if match is None else int(match[1]) for match in found]
            ranks = [rank for rank in named if rank is not None]
            if _distinct(named):
                return ranks, max(ranks) + 1, ""
    if len(processes) == 1:
        return [0], 1, ""
    said = (
        "ranks: neither MPI, nor NCCL's payloads, nor the files' names tell them; processes are "
        "numbered by file, device and process id"
    )
    return list(range(len(processes))), len(processes), said


def _distinct(ranks: Sequence[int | None]) -> bool:
    return None not in ranks and len(set(ranks)) == len(ranks)


def _windows(steps: Sequence[tuple[int | None, int, int]]) -> list[Window]:
    """Each step lasts until the next one begins, if that is the next by its number as well.

    Steps are numbered by their names if these go up, else from 0 in the order of their start.
    """
    ordered = sorted(steps, key=lambda step: step[1])
    numbers = [step[0] for step in ordered]
    goes_up = None not in numbers and all(
        a is not None and b is not None and a < b for a, b in pairwise(numbers)
    )
    counted = [n if goes_up and n is not None else i for i, n in enumerate(numbers)]
    found = []
    for place, (_, start, end) in enumerate(ordered):
        if place + 1 < len(ordered):
            following = ordered[place + 1][1]
            follows = counted[place + 1] == counted[place] + 1
            end = following if follows else min(end, following)
        found.append(Window(counted[place], start, end))
    return found


def _say_what_is_missing(run: ImportedRun, targets: Sequence[Target], without_call: int) -> None:
    calls = [call for target in targets for call in target.process.calls]
    if without_call:
        run.lacks(
            f"of {without_call:,} kernels of NCCL the call (NVTX ranges of NCCL): their operation "
            "is known from their names, but no group, size or peer, so they have no bandwidth"
        )
    if any(call.bytes is None for call in calls):
        run.lacks("the size of some of NCCL's operations: no NVTX payload that can be read")
    if not any(t.process.ranges for t in targets):
        run.lacks(
            "what kernels are part of: no range is named forward, backward or optimizer. Kernels "
            "launched by torch's autograd threads count as backward, the others as forward"
        )
    if not any(target.process.devices for target in targets):
        run.lacks("kernels: only what the host did is here; profile with --trace=cuda,nvtx")
    unended = sum(target.process.unended for target in targets)
    if unended:
        run.lacks(f"the end of {unended:,} NVTX ranges: they are left out")
    run.lacks("memory and floating-point operations")


def _recognizes(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
    try:
        with NsysDatabase(path) as database:
            return KERNELS in database.columns or NVTX in database.columns
    except TraceError:
        return False


FORMAT: Final = Format(
    name="nsys",
    title="Nsight Systems",
    help="""Import SQLite exports of Nsight Systems: kernels, NVTX ranges, NCCL.

    PATHS are exports, one per process or one per host, or a folder of them. Make them with

    \b
      nsys profile --trace=cuda,nvtx -o report_rank%q{RANK} python train.py
      nsys export --type sqlite report_rank0.nsys-rep

    Ranks come from MPI, else from NCCL's NVTX payloads, else from the files' names. Ranges whose
    names say so become steps, forward, backward and optimizer (docs/importing.md has the table).
    """,
    patterns=("*.sqlite", "*.sqlite3", "*.db"),
    recognizes=_recognizes,
    read=_read,
    options=(
        Option(
            name="step-range",
            help="Regular expression for the whole name of the NVTX range of a step; its first "
            "group, if it has one, is the step's number. Without it: ProfilerStep#3, step 3, "
            "iteration 3, train_step and the like.",
            default="",
        ),
    ),
)
