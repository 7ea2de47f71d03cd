"""NCCL Inspector: the profiler plugin of NCCL 2.28 and later, which writes one JSON line for each
collective and message: its size, and how long its kernel took.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from collectors.importers.formats import Advance, Format
from collectors.importers.imported_run import ImportedRank, ImportedRun
from collectors.importers.nccl_layout import ends, key_of
from collectors.importers.nccl_records import Counts, Member, Record, read_records
from collectors.importers.nsys_nccl import MESSAGES, OPS, PER_RANK
from collectors.importers.process_groups import group_of
from collectors.importers.whole_recording import STEP, one_step
from tracer.errors import DamagedTrace, TraceError
from tracer.topology import Group

LANE: Final = "host:nccl"
_OPERATIONS: Final = 64
"""More than there are operations in NCCL: it numbers those of each kind apart."""
_LAID_OUT: Final = "laid out"
_DIMENSION: Final = re.compile(r"(tp|pp|dp|cp|ep)(?![a-z])", re.IGNORECASE)
_HEAD_BYTES: Final = 1 << 14


def _read(files: Sequence[Path], run: ImportedRun, advance: Advance, **options: Any) -> None:
    counts = Counts()
    by_process: dict[tuple[str, int], list[Record]] = defaultdict(list)
    lost: dict[tuple[str, int], int] = defaultdict(int)
    for path in files:
        before, process = counts.lost, None
        for record in read_records(path, counts, advance):
            process = record.member.host, record.member.pid
            by_process[process].append(record)
        if process is not None:
            lost[process] += counts.lost - before
    if not by_process:
        raise TraceError(
            f"{files[0]}: no collective and no message in it; NCCL_INSPECTOR_DUMP_MIN_SIZE_BYTES "
            "(default 8192) and NCCL_INSPECTOR_REQUIRE_KERNEL_TIMING leave some out"
        )
    by_rank, run.world_size = _ranks(by_process, run)
    run.versions["nccl inspector"] = counts.version
    places = _places(by_rank)
    is_verbose = all((r.begun or r.called) is not None for rs in by_rank.values() for r in rs)
    laid_out = {} if is_verbose else ends(by_rank)
    spans = {
        rank: [_span(record, laid_out) for record in records] for rank, records in by_rank.items()
    }
    begin = min(start for of_rank in spans.values() for start, _ in of_rank)
    end = max(until for of_rank in spans.values() for _, until in of_rank)
    run.relative(begin)
    for rank, records in by_rank.items():
        member = records[0].member
        clock = member.host if is_verbose else _LAID_OUT
        mine = run.rank(rank, host=member.host, clock=clock, device="cuda", pid=member.pid)
        mine.dropped = lost[member.host, member.pid]
        _write(mine, records, spans[rank], places)
    _say_what_is_missing(run, by_rank, counts, is_verbose)
    one_step(run, begin, end, ranks=by_rank, why="the Inspector knows none")


def _ranks(
    by_process: Mapping[tuple[str, int], list[Record]], run: ImportedRun
) -> tuple[dict[int, list[Record]], int]:
    """Global rank → its records. A communicator to which all processes belong tells the ranks."""
    communicators = {r.member.communicator for records in by_process.values() for r in records}
    if len(communicators) == 1:
        return _by_place([r for records in by_process.values() for r in records])
    joined = {process: _joined(process, records) for process, records in by_process.items()}
    shared = set.intersection(*({*own} for own in joined.values()))
    first = next(iter(joined.values()))
    world = max(shared, key=lambda name: first[name].size, default=None)
    if world is not None and len({own[world].place for own in joined.values()}) == len(joined):
        ranks = {own[world].place: by_process[process] for process, own in joined.items()}
        return ranks, first[world].size
    run.lacks(
        "ranks: no communicator has all processes, so these are numbered by host and process id"
    )
    ordered = sorted(by_process)
    return {rank: by_process[process] for rank, process in enumerate(ordered)}, len(ordered)


def _by_place(records: list[Record]) -> tuple[dict[int, list[Record]], int]:
    """With one communicator, its ranks are the ranks, also of several in one process."""
    found: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        found[record.member.place].append(record)
    return dict(found), records[0].member.size


def _joined(process: tuple[str, int], records: list[Record]) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for record in records:
        member = found.setdefault(record.member.communicator, record.member)
        if member.place != record.member.place:
            raise DamagedTrace(
                f"process {process[1]} on {process[0]}: is ranks {member.place} and "
                f"{record.member.place} of communicator {member.communicator}; with several GPUs "
                "in a process only files with one communicator can be told apart"
            )
    return found


def _places(by_rank: Mapping[int, list[Record]]) -> dict[str, dict[int, int]]:
    """Communicator → rank in it → global rank."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for rank, records in by_rank.items():
        for record in records:
            found[record.member.communicator][record.member.place] = rank
    return found


def _span(record: Record, laid_out: Mapping[Any, int]) -> tuple[int, int]:
    if laid_out:
        end = laid_out[key_of(record)]
        return end - record.duration, end
    begun = record.begun if record.begun is not None else record.called or 0
    return begun, begun + record.duration


def _write(
    rank: ImportedRank,
    records: Sequence[Record],
    spans: Sequence[tuple[int, int]],
    places: Mapping[str, Mapping[int, int]],
) -> None:
    countable = _countable(records)
    for number, (record, (start, end)) in enumerate(zip(records, spans, strict=True)):
        member = record.member
        op = OPS.get(record.op, record.op)
        known = places[member.communicator]
        group = _group(rank, member, known) if len(known) == member.size else None
        common: dict[str, Any] = {
            "kind": op if op in MESSAGES else "collective",
            "name": op,
            "step": STEP,
            "group": None if group is None else group.name,
            "bytes": record.bytes * (member.size if op in PER_RANK else 1),
            "correlation": number,
        }
        if op in MESSAGES:
            peer = common["peer"] = known.get(-1 if record.peer is None else record.peer)
            if group is not None and peer is not None and member.communicator in countable:
                pair = (rank.number, peer) if op == "send" else (peer, rank.number)
                common["seq"] = group.next_message(*pair)
        else:
            common["seq"] = record.number * _OPERATIONS + _index(op)
        called = record.called if record.called is not None else start
        rank.add(start=called, duration=0, lane=LANE, **common)
        where = group.name if group is not None else member.communicator
        rank.add(start=start, duration=end - start, lane=f"device:{where} communication", **common)


def _countable(records: Sequence[Record]) -> set[str]:
    """Communicators of which no message is missing: they are numbered from 1 on, sends and
    receives together.
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    for record in records:
        if record.peer is not None:
            numbers[record.member.communicator].append(record.number)
    return {name for name, found in numbers.items() if sorted(found) == [*range(1, len(found) + 1)]}


def _group(rank: ImportedRank, member: Member, known: Mapping[int, int]) -> Group:
    ranks = sorted(known.values())
    dimension = _DIMENSION.match(member.name)
    if dimension is not None:
        rank.topology.note_group(dimension[1].lower(), ranks)
    return group_of(rank.topology, ranks, member.name)


def _index(op: str) -> int:
    kinds = list(dict.fromkeys(OPS.values()))
    return kinds.index(op) if op in kinds else _OPERATIONS - 1


def _say_what_is_missing(
    run: ImportedRun,
    by_rank: Mapping[int, list[Record]],
    counts: Counts,
    is_verbose: bool,
) -> None:
    records = [record for of_rank in by_rank.values() for record in of_rank]
    run.lacks("computation and memory: bubbles, time accounting and what-if have nothing to go by")
    run.lacks("operations below NCCL_INSPECTOR_DUMP_MIN_SIZE_BYTES (default 8,192 bytes)")
    if is_verbose:
        run.lacks(
            "exact times: an operation begins when the CPU noticed its kernel, on the wall clock; "
            "its length is measured to 1 µs"
        )
    else:
        run.lacks(
            "when operations took place (only with NCCL_INSPECTOR_DUMP_VERBOSE=1): lengths are "
            "measured, places are laid out. The kernels of a collective end together, and follow "
            "each other without a gap up to the time at which they were written"
        )
    if not all(record.is_timed_by_gpu for record in records):
        run.lacks("the GPU's time of some operations, whose length the CPU measured")
    if counts.lost:
        run.lacks(
            f"{counts.lost:,} operations that the Inspector overwrote before it wrote them; raise "
            "NCCL_INSPECTOR_DUMP_COLL_RING_SIZE and …_P2P_RING_SIZE or dump more often"
        )
    if counts.without_context:
        run.lacks(f"the communicator of {counts.without_context:,} records: they are left out")
    if counts.cut_off:
        run.lacks("the end of a file whose process was killed")
    if counts.proxy:
        run.lacks(f"{counts.proxy:,} records of NCCL's proxy: they are not imported")
    sizes = {r.member.communicator: r.member.size for r in records}
    known = _places(by_rank)
    partial = sum(len(known[communicator]) < size for communicator, size in sizes.items())
    if partial:
        run.lacks(
            f"the files of all members of {partial:,} communicators: their operations have no "
            "group and no bandwidth"
        )


def _recognizes(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return head.lstrip()[:1] == b"{" and b'"inspector_output_format_version"' in head


FORMAT: Final = Format(
    name="nccl",
    title="NCCL Inspector",
    help="""Import the JSON lines of NCCL Inspector, the profiler plugin of NCCL 2.28 and later.

    PATHS are its files (HOST-pidPID.log), one per process, or the folder in
    NCCL_INSPECTOR_DUMP_DIR. Make them with

    \b
      NCCL_PROFILER_PLUGIN=…/libnccl-profiler-inspector.so NCCL_INSPECTOR_ENABLE=1
      NCCL_INSPECTOR_DUMP_VERBOSE=1        with it, files say when an operation began

    `rankscope bandwidth RUN` then measures each group and operation, as seen and free of waiting.
    """,
    patterns=("*.log", "*.jsonl", "*.json"),
    recognizes=_recognizes,
    read=_read,
)
