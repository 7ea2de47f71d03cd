"""The events of one Kineto file as compact columns: what each is, and when it was.

About 40 bytes per event are kept until the file ends, since a kernel may come before its launch.
"""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass, field
from typing import Any, Final

from collectors.importers.chrome_json import Event
from tracer.errors import DamagedTrace
from tracer.schema import LONGEST_KERNEL

_MOST_EVENTS: Final = 100_000_000
"""Of one file: 4 GB of columns. A step of a large model has some 100,000."""

_KERNELS: Final = {"kernel": "kernel", "gpu_memcpy": "memory", "gpu_memset": "memory"} | {
    "memcpy": "memory",
    "memset": "memory",
}
"""Category of a device event → what it is. The names without `gpu_` are of torch before 1.11."""
_LAUNCHES: Final = frozenset(
    ("cuda_runtime", "cuda_driver", "runtime", "driver", "hip_runtime", "privateuse1_runtime")
)
_OPERATORS: Final = frozenset(("cpu_op", "operator"))
_STEP: Final = re.compile(r"ProfilerStep\s*#\s*(\d{1,9})")
_METADATA: Final = "Collective name"
_COMMUNICATION: Final = re.compile(r"c10d::|_c10d_functional::")
_SYNCHRONIZES: Final = "Synchronize"


@dataclass(slots=True)
class Spans:
    """Columns of equal length: start and duration in ns, number of the name and of the lane."""

    start: array[int] = field(default_factory=lambda: array("q"))
    duration: array[int] = field(default_factory=lambda: array("q"))
    name: array[int] = field(default_factory=lambda: array("i"))
    lane: array[int] = field(default_factory=lambda: array("i"))
    key: array[int] = field(default_factory=lambda: array("q"))
    """Correlation of device events and launches, external id of operators; -1 where none."""

    def add(self, start: int, duration: int, name: int, lane: int, key: int) -> None:
        """One more row."""
        self.start.append(start)
        self.duration.append(duration)
        self.name.append(name)
        self.lane.append(lane)
        self.key.append(key)

    def __len__(self) -> int:
        return len(self.start)


class Words:
    """Words by number, in the order of their first use."""

    def __init__(self) -> None:
        self.words: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, word: Any) -> int:
        """The number of a word."""
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = len(self.words)
            self.words.append(word)
        return found


@dataclass(slots=True)
class Communication:
    """One operation that a process group was asked for: a host event with its arguments."""

    start: int
    duration: int
    thread: int
    name: str
    external: int
    arguments: dict[str, Any]


class KinetoEvents:
    """What is kept of a file's events; `take` them one by one.

    Attributes:
        operators: outer and inner operators of the host; lane: thread.
        annotations: what user code and libraries named with `record_function`; lane: thread.
        launches: calls that start device work; lane: thread.
        kernels: device work; lane: (device, stream) of `streams`.
        is_copy: by row of `kernels`, whether it is a copy or a memset.
        of_kernels: row of `kernels` → arguments of the collective that Kineto put there.
        steps: (number, start, duration, thread) of each ProfilerStep.
        communication: calls into process groups.
        memory: time, bytes allocated and bytes reserved (-1: unknown), in turn.
        threads: names by thread id.
        left_out: category → events that are of no use here.
    """

    def __init__(self) -> None:
        self.operators, self.annotations, self.launches = Spans(), Spans(), Spans()
        self.kernels = Spans()
        self.is_copy = array("b")
        self.of_kernels: dict[int, dict[str, Any]] = {}
        self.steps: list[tuple[int, int, int, int]] = []
        self.communication: list[Communication] = []
        self.memory = array("q")
        self.threads: dict[int, str] = {}
        self.names, self.streams, self.tids = Words(), Words(), Words()
        self.left_out: dict[str, int] = {}
        self.is_coarse = False
        """Whether times have lost nanoseconds: a double holds 16 digits, old traces write 19."""
        self._events = 0

    def take(self, event: Event) -> None:
        """One event of the file; what has no usable time is counted as left out."""
        phase, category = event.get("ph"), str(event.get("cat", "")).lower()
        if phase == "X":
            self._events += 1
            if self._events > _MOST_EVENTS:
                raise DamagedTrace(f"more than {_MOST_EVENTS:,} events in one file")
            self._span(event, category)
        elif phase == "M":
            self._named(event)
        elif phase == "i" and event.get("name") == "[memory]":
            self._memory(event)

    def _span(self, event: Event, category: str) -> None:
        start, duration = self._ns(event.get("ts")), self._ns(event.get("dur"))
        if start is None or duration is None or duration < 0:
            self._leave_out("events without a time")
            return
        arguments = event.get("args")
        arguments = arguments if isinstance(arguments, dict) else {}
        name = str(event.get("name", ""))[:LONGEST_KERNEL]
        if category in _KERNELS:
            self._kernel(event, _KERNELS[category], start, duration, name, arguments)
            return
        thread = self.tids.number(_whole(event.get("tid")))
        if category in _LAUNCHES:
            key = _whole(arguments.get("correlation"))
            self.launches.add(start, duration, self.names.number(name), thread, key)
        elif category in _OPERATORS:
            self._operator(start, duration, thread, name, arguments)
        elif category == "user_annotation":
            self._annotation(start, duration, thread, name, arguments)
        else:
            self._leave_out(category)

    def _operator(
        self, start: int, duration: int, thread: int, name: str, arguments: dict[str, Any]
    ) -> None:
        external = _whole(arguments.get("External id"))
        if _METADATA in arguments or _COMMUNICATION.match(name):
            self.communication.append(
                Communication(start, duration, thread, name, external, arguments)
            )
        if name != "record_param_comms":
            self.operators.add(start, duration, self.names.number(name), thread, external)

    def _annotation(
        self, start: int, duration: int, thread: int, name: str, arguments: dict[str, Any]
    ) -> None:
        step = _STEP.fullmatch(name)
        if step:
            self.steps.append((int(step[1]), start, duration, thread))
        elif name.startswith("gloo:"):
            self.left_out["gloo"] = self.left_out.get("gloo", 0) + 1
        elif _METADATA in arguments:
            self.communication.append(Communication(start, duration, thread, name, -1, arguments))
        else:
            self.annotations.add(start, duration, self.names.number(name), thread, -1)

    def _kernel(
        self,
        event: Event,
        what: str,
        start: int,
        duration: int,
        name: str,
        arguments: dict[str, Any],
    ) -> None:
        device = _whole(arguments.get("device", event.get("pid")))
        stream = _whole(arguments.get("stream", event.get("tid")))
        lane = self.streams.number((device, stream))
        if _METADATA in arguments or name.startswith(("nccl", "rccl")):
            self.of_kernels[len(self.kernels)] = arguments
        key = _whole(arguments.get("correlation"))
        self.kernels.add(start, duration, self.names.number(name), lane, key)
        self.is_copy.append(what == "memory")

    def _named(self, event: Event) -> None:
        arguments = event.get("args")
        if event.get("name") == "thread_name" and isinstance(arguments, dict):
            self.threads[_whole(event.get("tid"))] = str(arguments.get("name", ""))[:100]

    def _memory(self, event: Event) -> None:
        """An allocation of torch, with what is allocated and reserved after it (bytes)."""
        arguments, ts = event.get("args"), self._ns(event.get("ts"))
        if (
            not isinstance(arguments, dict)
            or ts is None
            or _whole(arguments.get("Device Type")) != 1
        ):
            return
        self.memory.append(ts)
        self.memory.append(_whole(arguments.get("Total Allocated")))
        self.memory.append(_whole(arguments.get("Total Reserved")))

    def _ns(self, microseconds: Any) -> int | None:
        if isinstance(microseconds, int) and not isinstance(microseconds, bool):
            return microseconds * 1_000 if abs(microseconds) < 1 << 53 else None
        if not isinstance(microseconds, float) or not math.isfinite(microseconds):
            return None
        if abs(microseconds) >= 1 << 53:
            return None
        if abs(microseconds) >= 1e14:
            self.is_coarse = True
        return round(microseconds * 1_000)

    def _leave_out(self, what: str) -> None:
        if what in self.left_out or len(self.left_out) < 100:
            self.left_out[what] = self.left_out.get(what, 0) + 1


def _whole(value: Any) -> int:
    """A whole number that fits into 32 bits or an id of 63, -1 for anything else."""
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 1 << 62:
        return value
    return -1
