"""What the labels of a Kineto file name: pipeline actions, optimizer steps, plain forwards.

torch.distributed.pipelining labels the actions of its runtime schedules `PP:0F3` (Interleaved1F1B,
zero-bubble, and schedules from a file), and GPipe's `Forward 3`; its Schedule1F1B labels nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from collectors.importers.growing_columns import Grown, Spans
from collectors.importers.kineto_columns import NONE, Ints
from collectors.importers.kineto_communication import P2P, Operations
from collectors.importers.kineto_events import KinetoEvents

_ACTION: Final = re.compile(r"PP:(\d{1,6})([FBIW])(\d{1,6})")
_MESSAGE: Final = re.compile(r"PP:(\d{1,6})(SEND|RECV)_([FB])(\d{1,6})")
_GPIPE: Final = re.compile(r"(Forward|Backward) (\d{1,6})")
_OPTIMIZER: Final = re.compile(r"Optimizer\.step#(.+)")
_FORWARD: Final = re.compile(r"(DistributedDataParallel|FullyShardedDataParallel)\.forward")
_DATA: Final = re.compile(r"enumerate\(DataLoader\).*")
_AUTOGRAD: Final = "autograd::engine::evaluate_function"
_NCCL: Final = re.compile(r"[nr]ccl")

KINDS: Final = {"F": "forward", "B": "backward", "I": "backward_input", "W": "backward_weight"}


@dataclass(slots=True)
class Label:
    """A named stretch of a thread's time, and what it is in our terms; ns."""

    kind: str
    name: str
    thread: int
    start: int
    end: int
    stage: int | None = None
    microbatch: int | None = None


def labels(events: KinetoEvents, own_stage: int | None) -> Iterator[Label]:
    """All annotations, in the order of the file; what names nothing that we know is `user`.

    own_stage: the stage of this rank, where it holds one; GPipe's labels do not say it.
    """
    spans = events.annotations
    kinds = [_kind(name, own_stage) for name in events.names.words]
    columns = (spans.start, spans.duration, spans.name, spans.lane)
    for start, duration, name, thread in zip(*map(Grown.tolist, columns), strict=True):
        kind, text, stage, microbatch = kinds[name]
        yield Label(kind, text, thread, start, start + duration, stage, microbatch)


def _kind(name: str, own_stage: int | None) -> tuple[str, str, int | None, int | None]:
    """Kind, name, stage and microbatch of a label."""
    if action := _ACTION.fullmatch(name):
        return KINDS[action[2]], name.removeprefix("PP:"), int(action[1]), int(action[3])
    if message := _MESSAGE.fullmatch(name):
        return f"{message[2]}_{message[3]}", name, int(message[1]), int(message[4])
    if chunk := _GPIPE.fullmatch(name):
        return KINDS[chunk[1][0]], name, own_stage, int(chunk[2])
    if optimizer := _OPTIMIZER.fullmatch(name):
        return "optimizer", optimizer[1], None, None
    if _FORWARD.fullmatch(name):
        return "forward", name, None, None
    return ("data" if _DATA.fullmatch(name) else "user"), name, None, None


def has_stages(found: list[Label]) -> bool:
    """Whether the labels tell pipeline actions."""
    return any(label.kind in KINDS.values() and label.microbatch is not None for label in found)


def backwards(events: KinetoEvents, outer: npt.NDArray[np.bool_]) -> list[Label]:
    """The backward passes of a loop without labels: outermost autograd operators of a thread that
    follow each other with no other operator between them.
    """
    spans = events.operators
    names = np.array([word.startswith(_AUTOGRAD) for word in events.names.words], np.bool_)
    lane, name, start = (column(spans, each) for each in ("lane", "name", "start"))
    end = start + column(spans, "duration")
    found = []
    for thread in range(len(events.tids.words)):
        mine = np.flatnonzero(outer & (lane == thread))
        mine = mine[np.argsort(start[mine], kind="stable")]
        is_autograd = names[name[mine]] if len(mine) else np.zeros(0, np.bool_)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], is_autograd.astype(np.int8), [0]])))
        starts, ends = start[mine], end[mine]
        for first, last in edges.reshape(-1, 2).tolist():
            found.append(
                Label("backward", "backward", thread, int(starts[first]), int(ends[last - 1]))
            )
    return found


def outermost(spans: Spans) -> npt.NDArray[np.bool_]:
    """The spans that lie in no other span of their thread."""
    start, lane = column(spans, "start"), column(spans, "lane")
    end = start + column(spans, "duration")
    order = np.lexsort((-end, start, lane))
    outer = np.zeros(len(start), np.bool_)
    for thread in np.flatnonzero(np.bincount(lane)).tolist():
        mine = order[lane[order] == thread]
        before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(end[mine])[:-1]])
        outer[mine] = start[mine] >= before
    return outer


def column(spans: Spans, name: str) -> Ints:
    """A column as a numpy array."""
    return np.asarray(getattr(spans, name), np.int64)


class Work:
    """Outermost operators that compute, by their start: what a label's time really held."""

    def __init__(self, events: KinetoEvents, outer: npt.NDArray[np.bool_]) -> None:
        computes = np.array(["c10d" not in word for word in events.names.words], np.bool_)
        spans = events.operators
        rows = np.flatnonzero(outer)
        rows = rows[computes[column(spans, "name")[rows]]] if len(rows) else rows
        rows = rows[np.argsort(column(spans, "start")[rows], kind="stable")]
        self._start = column(spans, "start")[rows]
        self._end = self._start + column(spans, "duration")[rows]

    def inside(self, label: Label) -> tuple[int, int] | None:
        """From the first operator that began in the label to the end of the last, in the label."""
        first, last = np.searchsorted(self._start, (label.start, label.end))
        if first == last:
            return None
        return int(self._start[first]), min(int(self._end[first:last].max()), label.end)


class DeviceWork:
    """Kernels by when they were launched: what a label's time meant for the device.

    Attributes:
        stream: the lane that computes most.
    """

    def __init__(self, events: KinetoEvents, launched: Ints) -> None:
        """launched: when each kernel was, as `launched_at` says it."""
        kernels, names = events.kernels, events.names.words
        self._start, self._lane = column(kernels, "start"), column(kernels, "lane")
        duration = column(kernels, "duration")
        self._end = self._start + duration
        is_compute = np.array([_NCCL.match(name) is None for name in names], np.bool_)
        copies = np.asarray(events.is_copy, np.bool_)
        self._computes = (is_compute[column(kernels, "name")] if names else copies) & ~copies
        busy = np.bincount(self._lane, duration * self._computes, minlength=1)
        self.stream = int(np.argmax(busy))
        self._order = np.argsort(launched, kind="stable")
        self._launched = launched[self._order]

    def inside(self, label: Label) -> Ints:
        """The kernels that compute on that stream and were launched in the label."""
        first, last = np.searchsorted(self._launched, (label.start, label.end))
        rows = self._order[first:last]
        found: Ints = rows[self._computes[rows] & (self._lane[rows] == self.stream)]
        return found

    def extent(self, rows: Ints) -> tuple[int, int]:
        """From the first start of some kernels to their last end."""
        return int(self._start[rows].min()), int(self._end[rows].max())


def launched_at(kernels: Spans, launches: Spans) -> Ints:
    """When each kernel was launched; when it began where the file does not say it."""
    times = column(kernels, "start").copy()
    if len(launches):
        order = np.argsort(column(launches, "key"), kind="stable")
        keys, wanted = column(launches, "key")[order], column(kernels, "key")
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        known = (keys[at] == wanted) & (wanted >= 0)
        times[known] = column(launches, "start")[order[at[known]]]
    return times


Receives = dict[tuple[str, int | None, int | None], list[int]]
"""The operations that an action waits for, by its kind (F or B), stage and microbatch."""


def tag_messages(found: list[Label], operations: Operations) -> Receives:
    """Give the messages that a label covers its stage and microbatch; returns the receives that
    each action waits for.
    """
    covering = [x for x in found if x.kind[:5] in ("SEND_", "RECV_") or x.microbatch is not None]
    covering.sort(key=lambda label: label.start)
    starts = np.array([label.start for label in covering], np.int64)
    receives: Receives = {}
    messages = np.flatnonzero(operations.are(lambda one: one.op in P2P))
    places = np.searchsorted(starts, operations.start[messages], side="right") - 1
    for message, at in zip(messages.tolist(), places.tolist(), strict=True):
        if at < 0 or operations.start[message] > covering[at].end:
            continue
        label = covering[at]
        operations.stage[message] = NONE if label.stage is None else label.stage
        operations.microbatch[message] = NONE if label.microbatch is None else label.microbatch
        if operations.described[operations.what[message]].op == "recv":
            action = label.kind[-1] if "_" in label.kind[:5] else label.kind[0].upper()
            receives.setdefault((action, label.stage, label.microbatch), []).append(message)
    return receives
