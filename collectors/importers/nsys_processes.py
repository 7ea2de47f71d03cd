"""The processes of an export of Nsight Systems: what of each must be known before it is written.

One pass over the NVTX ranges finds steps, ranges whose names say what is done, and NCCL's calls.
Times are the export's own, ns since the session began; `epoch` makes them the host's wall clock.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from collectors.importers.labels import Label, label_of
from collectors.importers.nsys_database import PROCESS, NsysDatabase
from collectors.importers.nsys_nccl import CALLS, Call
from collectors.importers.nsys_payloads import COMMUNICATOR, PEER, RANK, RANKS, SIZE, Payloads
from tracer.schema import MAX_RANK
from tracer.text import plain_text

KERNELS: Final = "CUPTI_ACTIVITY_KIND_KERNEL"
NVTX: Final = "NVTX_EVENTS"
RANGES: Final = (59, 60, 70, 71)
"""Event types: ranges that are pushed and popped, that start and end; the same from text files."""
MARK: Final = 34
_DOMAIN: Final = 75
_MOST_STEPS: Final = 1_000_000


@dataclass(slots=True, frozen=True)
class Range:
    """A named range of a thread whose name says what is done in it."""

    start: int
    end: int
    name: str
    label: Label


@dataclass(slots=True, frozen=True)
class NvtxRow:
    """One row of NVTX_EVENTS; `end` is None for a mark and for a range that never ended."""

    process: int
    thread: int
    start: int
    end: int | None
    name: str
    is_mark: bool
    in_nccl: bool
    binary: Any
    text: Any


@dataclass(kw_only=True, slots=True)
class Process:
    """One process of one export."""

    path: Path
    number: int
    pid: int
    host: str
    epoch: int | None
    first: int = 1 << 62
    last: int = -(1 << 62)
    devices: Counter[int] = field(default_factory=Counter)
    threads: dict[int, str] = field(default_factory=dict)
    joined: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Communicator → rank in it, number of its ranks."""
    mpi_rank: int | None = None
    calls: list[Call] = field(default_factory=list)
    ranges: dict[int, list[Range]] = field(default_factory=lambda: defaultdict(list))
    steps: list[tuple[int | None, int, int]] = field(default_factory=list)
    unended: int = 0

    def lane(self, thread: int) -> str:
        """`host:main`, or the thread's name or number."""
        if (thread & ~PROCESS) == self.pid:
            return "host:main"
        return f"host:{self.threads.get(thread) or thread & ~PROCESS}"

    def reach(self, start: int, end: int) -> None:
        """The process was seen at these times."""
        self.first, self.last = min(self.first, start), max(self.last, end)


class Labels:
    """Which labelled range is the innermost one at a time, on a thread or else in the process."""

    def __init__(self, process: Process) -> None:
        self.ranges = [r for ranges in process.ranges.values() for r in ranges]
        numbers = {id(r): n for n, r in enumerate(self.ranges)}
        self._threads = {
            thread: _pieces(ranges, numbers) for thread, ranges in process.ranges.items()
        }
        self._all = _pieces(self.ranges, numbers)

    def at(self, thread: int | None, time: int) -> int | None:
        """Number of the range in `ranges`, or None."""
        own = self._threads.get(-1 if thread is None else thread)
        found = None if own is None else _piece_at(own, time)
        return _piece_at(self._all, time) if found is None else found


def _pieces(ranges: list[Range], numbers: dict[int, int]) -> tuple[list[int], list[int | None]]:
    """From each of these times on, the innermost range (the one that began last), or none."""
    lasting = [r for r in ranges if r.start < r.end]  # one of no length would end before it begins
    edges = sorted(
        [(r.start, 1, numbers[id(r)]) for r in lasting]
        + [(r.end, 0, numbers[id(r)]) for r in lasting]
    )
    times: list[int] = []
    owners: list[int | None] = []
    opened: dict[int, None] = {}
    for time, begins, number in edges:
        if begins:
            opened[number] = None
        else:
            opened.pop(number, None)
        owner = next(reversed(opened), None)
        if times and times[-1] == time:
            owners[-1] = owner
        else:
            times.append(time)
            owners.append(owner)
    return times, owners


def _piece_at(pieces: tuple[list[int], list[int | None]], time: int) -> int | None:
    place = bisect_right(pieces[0], time) - 1
    return pieces[1][place] if place >= 0 else None


def scan(database: NsysDatabase, step_range: re.Pattern[str]) -> dict[int, Process]:
    """The processes of an export, by their `globalPid`."""
    found = _found(database)
    payloads = Payloads(database)
    for row in nvtx_rows(database):
        process = found(row.process)
        process.reach(row.start, row.start if row.end is None else row.end)
        if row.is_mark:
            continue
        if row.end is None:
            process.unended += 1
        elif row.in_nccl:
            _note_nccl(process, row, payloads.read(row.binary, row.text))
        else:
            _note_range(process, row, row.end, step_range)
    for start, end, device, owner in database.rows(
        KERNELS, ("start", "end", "deviceId", "globalPid")
    ):
        if are_times(start, end):
            process = found(owner if type(owner) is int else 0)
            process.reach(start, end)
            process.devices[device if type(device) is int else 0] += 1
    return found.processes


class _found:  # noqa: N801 - called like a function
    """Finds or makes the process of a `globalPid`."""

    def __init__(self, database: NsysDatabase) -> None:
        self.processes: dict[int, Process] = {}
        self._path = database.path
        host = database.value("TARGET_INFO_SYSTEM_ENV", "value", "WHERE name = 'Hostname'")
        self._host = plain_text(host) if isinstance(host, str) else ""
        epoch = database.value("TARGET_INFO_SESSION_START_TIME", "utcEpochNs")
        self._epoch = epoch if type(epoch) is int and 0 < epoch < 1 << 62 else None
        self._ranks = (
            {
                tid & PROCESS: rank
                for tid, rank in database.rows("MPI_RANKS", ("globalTid", "rank"))
                if type(tid) is int and type(rank) is int and rank >= 0
            }
            if database.has("MPI_RANKS", "globalTid", "rank")
            else {}
        )
        self._threads: dict[int, str] = {}
        if database.has("ThreadNames", "globalTid", "nameId"):
            for thread, name in database.rows("ThreadNames", ("globalTid", "nameId:text")):
                if type(thread) is int and isinstance(name, str):
                    self._threads[thread] = plain_text(name)

    def __call__(self, number: int) -> Process:
        process = self.processes.get(number)
        if process is None:
            threads = {t: name for t, name in self._threads.items() if t & PROCESS == number}
            process = self.processes[number] = Process(
                path=self._path,
                number=number,
                pid=(number >> 24) & 0xFFFFFF,
                host=self._host,
                epoch=self._epoch,
                threads=threads,
                mpi_rank=self._ranks.get(number),
            )
        return process


def nvtx_rows(database: NsysDatabase) -> Iterator[NvtxRow]:
    """Ranges and marks, in the file's order."""
    wanted = ("start", "end", "eventType", "text", "textId:text", "globalTid", "domainId")
    if not database.has(NVTX, "start"):
        return
    domains = (
        {
            (tid & PROCESS if type(tid) is int else 0, domain)
            for tid, domain, name in database.rows(
                NVTX, ("globalTid", "domainId", "text"), f"WHERE eventType = {_DOMAIN}"
            )
            if name == "NCCL"
        }
        if database.has(NVTX, "eventType", "domainId", "text")
        else set()
    )
    for start, end, type_, text, registered, thread, domain, binary, extra in database.rows(
        NVTX, (*wanted, "binaryData", "jsonText")
    ):
        name = text if isinstance(text, str) else registered
        is_mark = type_ == MARK
        if not isinstance(name, str) or type(start) is not int or abs(start) >= 1 << 62:
            continue
        if not is_mark and type_ is not None and type_ not in RANGES:
            continue
        thread = thread if type(thread) is int else 0
        process = thread & PROCESS
        name = plain_text(name)
        yield NvtxRow(
            process=process,
            thread=thread,
            start=start,
            end=end if are_times(start, end) and not is_mark else None,
            name=name,
            is_mark=is_mark,
            in_nccl=(process, domain) in domains or (not domains and name in CALLS),
            binary=binary,
            text=extra,
        )


def are_times(start: Any, end: Any) -> bool:
    """Whether these are a begin and an end that the format can hold."""
    return type(start) is int and type(end) is int and -(1 << 62) < start <= end < 1 << 62


def _note_nccl(process: Process, row: NvtxRow, said: dict[str, int]) -> None:
    communicator = said.get(COMMUNICATOR)
    place, size = said.get(RANK, -1), said.get(RANKS, 0)
    if communicator is not None and 0 <= place < size <= MAX_RANK:
        process.joined[communicator] = place, size
    if row.name in CALLS and row.end is not None:
        process.calls.append(
            Call(
                op=CALLS[row.name],
                thread=row.thread,
                start=row.start,
                end=row.end,
                communicator=communicator,
                bytes=said.get(SIZE),
                peer=said.get(PEER),
            )
        )


def _note_range(process: Process, row: NvtxRow, end: int, step_range: re.Pattern[str]) -> None:
    step = step_range.fullmatch(row.name)
    if step is not None:
        number = step[1] if step_range.groups and step[1] else ""
        known = number.isascii() and number.isdecimal() and len(number) < 10
        if len(process.steps) < _MOST_STEPS:
            process.steps.append((int(number) if known else None, row.start, end))
        return
    label = label_of(row.name)
    if label is not None:
        process.ranges[row.thread].append(Range(row.start, end, row.name, label))
