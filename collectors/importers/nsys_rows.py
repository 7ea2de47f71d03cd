"""Write one export of Nsight Systems: NVTX ranges on host lanes, kernels on device lanes."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from collectors.importers.imported_run import ImportedRank
from collectors.importers.labels import Label, label_of
from collectors.importers.nsys_database import NsysDatabase
from collectors.importers.nsys_nccl import (
    MESSAGES,
    PER_RANK,
    Call,
    Kernel,
    carried_out,
    kernel_op,
)
from collectors.importers.nsys_processes import (
    KERNELS,
    Labels,
    NvtxRow,
    Process,
    are_times,
    nvtx_rows,
)

UNLABELLED: Final = "unlabelled kernels"
_AUTOGRAD: Final = "pt_autograd"
"""torch names the threads that run backward so."""
_PLACED: Final = ("start", "end", "streamId", "deviceId", "globalPid")
"""The columns that say where an activity of the device belongs; `_place` reads them."""
_GRAPHS: Final = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
_OPERATORS: Final = ("aten::", "autograd::", "torch::", "c10d::", "nccl:", "cudnn", "cublas")
"""What `torch.autograd.profiler.emit_nvtx` gives to operators; arguments follow after a comma."""
_COPIES: Final = {1: "HtoD", 2: "DtoH", 8: "DtoD", 10: "PtoP"}
"""copyKind of CUPTI (CUpti_ActivityMemcpyKind)."""


@dataclass(slots=True, frozen=True)
class Window:
    """A step: its number, start and end in the export's ns."""

    number: int
    start: int
    end: int


@dataclass(kw_only=True, slots=True)
class Target:
    """Where the events of a process go: its rank, what is added to its times, its steps, the
    members of its communicators by rank in them, and what its ranges say.
    """

    process: Process
    rank: ImportedRank
    offset: int
    windows: list[Window]
    groups: Mapping[int, Mapping[int, int]]
    labels: Labels
    kernels: list[Kernel] = field(default_factory=list)
    correlation: int = 0
    spans: dict[tuple[int, str], tuple[int, int]] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts = [window.start for window in self.windows]

    def step(self, time: int) -> int | None:
        """The step that a time lies in."""
        place = bisect_right(self._starts, time) - 1
        inside = place >= 0 and time < self.windows[place].end
        return self.windows[place].number if inside else None

    def stream(self, stream: Any, device: Any) -> str:
        """`7`, or `1.7` where the process has several devices, whose streams have equal numbers."""
        number = stream if type(stream) is int else 0
        if len(self.process.devices) < 2:
            return str(number)
        return f"{device if type(device) is int else 0}.{number}"

    def add(self, start: int, end: int, at: int, **event: Any) -> None:
        """One event; it belongs to the step of the time `at`."""
        self.rank.add(start=start + self.offset, duration=end - start, step=self.step(at), **event)


@dataclass(slots=True, frozen=True)
class _Place:
    """An activity of the device: whose it is, its stream, and its launch: the thread (None if
    unknown) and the times from and until, both its own start where these are not `known`.
    """

    target: Target
    stream: str
    thread: int | None
    known: bool
    launched: int
    launched_until: int
    start: int
    end: int


def write_export(
    database: NsysDatabase, targets: Mapping[int, Target], step_range: re.Pattern[str]
) -> int:
    """Write the processes of one export; returns how many NCCL kernels had no call of NCCL."""
    for target in targets.values():
        for window in target.windows:
            what = {"kind": "step", "name": "step", "lane": "host:main"}
            target.add(window.start, window.end, window.start, **what)
    for row in nvtx_rows(database):
        if row.process in targets and not step_range.fullmatch(row.name):
            _range(targets[row.process], row)
    _work(database, targets)
    _graphs(database, targets)
    _memory(database, targets)
    unknown = 0
    for target in targets.values():
        _write_spans(target)
        unknown += _communication(target)
    return unknown


def _range(target: Target, row: NvtxRow) -> None:
    lane = target.process.lane(row.thread)
    if row.is_mark:
        target.add(row.start, row.start, row.start, kind="marker", name=row.name, lane=lane)
        return
    if row.end is None or row.in_nccl:
        return
    label = label_of(row.name)
    if label is not None:
        target.add(
            row.start,
            row.end,
            row.start,
            kind=label.kind,
            name=row.name,
            lane=lane,
            stage=label.stage,
            microbatch=label.microbatch,
        )
        return
    is_operator = row.name.startswith(_OPERATORS)
    target.add(
        row.start,
        row.end,
        row.start,
        kind="kernel" if is_operator else "user",
        name=row.name.partition(",")[0],
        lane=f"{lane} operators" if is_operator else lane,
    )


def _work(database: NsysDatabase, targets: Mapping[int, Target]) -> None:
    """Kernels: those of NCCL are kept for later, the others written, with what they are part of."""
    for row in database.launched(KERNELS, (*_PLACED, "demangledName:text", "shortName:text")):
        place = _place(targets, row)
        if place is None:
            continue
        name, short = row[-2:]
        name = name if isinstance(name, str) else short
        name = name if isinstance(name, str) else "unknown kernel"
        op = kernel_op(short if isinstance(short, str) else name)
        _kernel(place, name)
        if op is None:
            _part(place)
        else:
            place.target.kernels.append(
                Kernel(
                    op,
                    place.thread,
                    place.launched,
                    place.launched_until,
                    place.start,
                    place.end,
                    place.stream,
                )
            )


def _place(targets: Mapping[int, Target], row: Sequence[Any]) -> _Place | None:
    """A row of `NsysDatabase.launched`: thread, start and end of the launch, then `_PLACED`."""
    thread, launched, until, start, end, stream, device, owner, *_ = row
    target = targets.get(owner if type(owner) is int else 0)
    if target is None or not are_times(start, end):
        return None
    known = are_times(launched, until) and launched <= start
    return _Place(
        target,
        target.stream(stream, device),
        thread if type(thread) is int else None,
        known,
        launched if known else start,
        until if known else start,
        start,
        end,
    )


def _kernel(place: _Place, name: str, **more: Any) -> None:
    lane = f"device:{place.stream} kernels"
    what = {"kind": "kernel", "name": name, "lane": lane} | more
    place.target.add(place.start, place.end, place.launched, **what)


def _part(place: _Place) -> None:
    """What the kernel is part of: forward, backward or the optimizer, on its stream's lane.

    The kernels of one microbatch are one span, from the first to the last: an action of the
    pipeline. The others are spans of their own, so that the gaps between them remain visible.
    """
    target, stream = place.target, place.stream
    thread = place.thread if place.known else None
    number = target.labels.at(thread, place.launched)
    if number is None:
        name = target.process.threads.get(thread or 0, "")
        label, said = Label("backward" if name.startswith(_AUTOGRAD) else "forward"), UNLABELLED
    else:
        label, said = target.labels.ranges[number].label, target.labels.ranges[number].name
    if label.kind == "data":
        return
    start, end = place.start, place.end
    if number is not None and label.microbatch is not None:
        first, last = target.spans.get((number, stream), (start, end))
        target.spans[number, stream] = min(first, start), max(last, end)
        return
    target.add(start, end, place.launched, kind=label.kind, name=said, lane=f"device:{stream}")


def _write_spans(target: Target) -> None:
    for (number, stream), (start, end) in target.spans.items():
        piece = target.labels.ranges[number]
        target.add(
            start,
            end,
            piece.start,
            kind=piece.label.kind,
            name=piece.name,
            lane=f"device:{stream}",
            stage=piece.label.stage,
            microbatch=piece.label.microbatch,
        )


def _graphs(database: NsysDatabase, targets: Mapping[int, Target]) -> None:
    """Replays of CUDA graphs that were recorded as a whole."""
    if not database.has(_GRAPHS, "start", "end"):
        return
    for row in database.launched(_GRAPHS, _PLACED):
        place = _place(targets, row)
        if place is not None:
            _kernel(place, "CUDA graph")
            _part(place)


def _memory(database: NsysDatabase, targets: Mapping[int, Target]) -> None:
    """Copies and fills."""
    kinds: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("CUPTI_ACTIVITY_KIND_MEMCPY", lambda kind: f"Memcpy {_COPIES.get(kind, '')}".strip()),
        ("CUPTI_ACTIVITY_KIND_MEMSET", lambda kind: "Memset"),
    )
    wanted = (*_PLACED, "bytes", "copyKind")
    for table, named in kinds:
        if not database.has(table, "start", "end"):
            continue
        for row in database.launched(table, wanted):
            place = _place(targets, row)
            if place is not None:
                size, kind = row[-2:]
                known = type(size) is int and 0 <= size < 1 << 48
                _kernel(
                    place, named(kind if type(kind) is int else 0), bytes=size if known else None
                )


def _communication(target: Target) -> int:
    """NCCL's calls and the kernels that carry them out."""
    rest = carried_out(target.process.calls, target.kernels)
    for call in target.process.calls:
        _call(target, call)
    for kernel in rest:
        kind = kernel.op if kernel.op in MESSAGES else "collective"
        what: dict[str, Any] = {"kind": kind, "name": kernel.op, "correlation": _next(target)}
        at = kernel.launched
        thread = target.process.lane(target.process.pid if kernel.thread is None else kernel.thread)
        target.add(at, kernel.launched_until, at, lane=thread, **what)
        target.add(
            kernel.start, kernel.end, at, lane=f"device:{kernel.stream} communication", **what
        )
    return len(rest)


def _call(target: Target, call: Call) -> None:
    places = target.groups.get(-1 if call.communicator is None else call.communicator, {})
    group = None
    if places:
        group = target.rank.topology.group(sorted(places.values()), "").name
    shares = len(places) if call.op in PER_RANK else 1
    size = call.bytes if call.bytes is not None and 0 <= call.bytes < 1 << 40 else None
    is_message = call.op in MESSAGES
    common = {
        "kind": call.op if is_message else "collective",
        "name": call.op,
        "group": group,
        "seq": call.seq if group else None,
        "peer": places.get(-1 if call.peer is None else call.peer) if is_message else None,
        "bytes": size * shares if size is not None and shares else None,
        "correlation": _next(target),
    }
    lane = target.process.lane(call.thread)
    target.add(call.start, call.end, call.start, lane=lane, **common)
    for start, end, stream in call.transfers:
        target.add(start, end, call.start, lane=f"device:{stream} communication", **common)


def _next(target: Target) -> int:
    target.correlation += 1
    return target.correlation
