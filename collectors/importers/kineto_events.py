"""The events of one Kineto file as compact columns: what each is, and when it was.

Some 12 bytes per event are kept until the file ends, since a kernel may come before its launch.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.importers.chrome_json import Event
from collectors.importers.growing_columns import Calls, Carried, Spans, Words, coded
from collectors.importers.kineto_columns import (
    METADATA,
    NO_TIME,
    NONE,
    Bools,
    EventColumns,
    Ints,
    arguments_of,
    whole,
)
from collectors.torch_names import operation_named
from tracer.arrays import numpy_numbers
from tracer.errors import DamagedTrace

_MOST_EVENTS: Final = 100_000_000
"""Of one file: some 1.2 GB of columns. A step of a large model has some 100,000."""

_KERNEL, _COPY, _LAUNCH, _OPERATOR, _ANNOTATION, _OTHER = range(1, 7)
_KINDS: Final = {
    "kernel": _KERNEL,
    **dict.fromkeys(("gpu_memcpy", "gpu_memset"), _COPY),
    **dict.fromkeys(("memcpy", "memset"), _COPY),  # of torch before 1.11
    **dict.fromkeys(("cuda_runtime", "cuda_driver", "runtime", "driver"), _LAUNCH),
    **dict.fromkeys(("hip_runtime", "privateuse1_runtime"), _LAUNCH),
    **dict.fromkeys(("cpu_op", "operator"), _OPERATOR),
    "user_annotation": _ANNOTATION,
}
"""Categories."""
_SPAN, _DESCRIPTION, _INSTANT = range(1, 4)
_PHASES: Final = {"X": _SPAN, "M": _DESCRIPTION, "i": _INSTANT}
_STEP, _GLOO, _CALL, _PARAMETERS, _CARRIES, _THREAD_NAME, _MEMORY = (1 << bit for bit in range(7))
"""What a name says, as bits."""
TOLD: Final = (
    *(METADATA, "dtype", "In msg nelems", "Out msg nelems", "Src Rank", "Dst Rank", "Group size"),
    *("Process Group Name", "Process Group Description", "Process Group Ranks"),
)
"""Arguments that say what an operation is."""
WAITS: Final = ("wait", "wait_tensor")
"""How names of waits end."""
_NUMBERED: Final = re.compile(r"ProfilerStep\s*#\s*(\d{1,9})")

Marks = npt.NDArray[np.uint8]


class KinetoEvents:
    """What is kept of a file's events; `take` them in the order of the file.

    Attributes:
        operators: outer and inner operators of the host; lane: thread.
        annotations: what user code and libraries named with `record_function`; lane: thread.
        launches: calls that start device work; lane: thread.
        kernels: device work; lane: (device, stream) of `streams`.
        is_copy: by row of `kernels`, whether it is a copy or a memset.
        calls, carried: operations of process groups, and the kernels that carry them out.
        said: what the different events of these say, each once: name, and the arguments in `TOLD`.
        steps: (number, start, duration, thread) of each ProfilerStep.
        memory: time, bytes allocated and bytes reserved (-1: unknown), in turn.
        threads: names by thread id.
        left_out: category → events that are of no use here.
    """

    def __init__(self) -> None:
        self.operators, self.annotations, self.launches = Spans(), Spans(), Spans()
        self.kernels = Spans()
        self.is_copy = array("b")
        self.calls, self.carried = Calls(), Carried()
        self.said: list[Event] = []
        self.steps: list[tuple[int, int, int, int]] = []
        self.memory = array("q")
        self.threads: dict[int, str] = {}
        self.names, self.streams, self.tids = Words(), Words(), Words()
        self.left_out: dict[str, int] = {}
        self.is_coarse = False
        """Whether times have lost nanoseconds: a double holds 16 digits, old traces write 19."""
        self._events = 0
        self._texts = Words()
        self._are_operations: list[bool] = []  # of `said`
        self._operations: set[int] = set()  # external ids of calls whose kernels need say no more

    def take(self, events: EventColumns) -> None:
        """Some events of the file; what has no usable time is counted as left out.

        Raises:
            DamagedTrace: they are too many.
        """
        names = events.name.dictionary.to_pylist()
        marks = _by_word(map(_marks_of, names), events.name)
        phases = events.phase.dictionary.to_pylist()
        phase = _by_word((_PHASES.get(word, 0) for word in phases), events.phase)
        self._spans(events, phase == _SPAN, names, marks)
        named = (phase == _DESCRIPTION) & _have(marks, _THREAD_NAME)
        self._name_threads(events, np.flatnonzero(named))
        memory = (phase == _INSTANT) & _have(marks, _MEMORY)
        self._note_memory(events, np.flatnonzero(memory & (events.start != NO_TIME)))

    def end(self) -> None:
        """Nothing more of the file comes: what only reading it needs is let go."""
        self._texts, self._are_operations, self._operations = Words(), [], set()

    def _spans(
        self, events: EventColumns, is_span: Bools, names: Sequence[str], marks: Marks
    ) -> None:
        count = int(is_span.sum())
        self._events += count
        if self._events > _MOST_EVENTS:
            raise DamagedTrace(f"more than {_MOST_EVENTS:,} events in one file")
        self.is_coarse |= bool((events.is_coarse & is_span).any())
        timed = is_span & (events.start != NO_TIME) & (events.duration >= 0)
        self._leave_out("events without a time", count - int(timed.sum()))

        categories = events.category.dictionary.to_pylist()
        kind = _by_word((_KINDS.get(word, _OTHER) for word in categories), events.category)
        kind *= timed
        copies = kind == _COPY
        kernels = copies | (kind == _KERNEL)
        launches, operators, annotations = (
            kind == each for each in (_LAUNCH, _OPERATOR, _ANNOTATION)
        )
        self._leave_out_others(categories, events.category, np.flatnonzero(kind == _OTHER))

        lanes = np.full(len(events), NONE, np.int64)
        on_host = np.flatnonzero(timed & ~kernels)
        threads, of_thread = coded(events.thread[on_host])
        lanes[on_host] = self.tids.numbers(threads.tolist(), of_thread)
        lanes[kernels] = self._stream_numbers(events, np.flatnonzero(kernels))

        steps = annotations & _have(marks, _STEP)
        gloo = annotations & _have(marks, _GLOO)
        self._leave_out("gloo", int(gloo.sum()))
        calls = annotations & ~steps & ~gloo & events.is_described
        annotations &= ~(steps | gloo | calls)
        calls |= operators & (events.is_described | _have(marks, _CALL))
        operators &= ~_have(marks, _PARAMETERS)

        self._note_steps(events, np.flatnonzero(steps), lanes)
        self._note_calls(events, np.flatnonzero(calls), lanes, kind == _OPERATOR)
        self._note_collective_kernels(events, kernels, _have(marks, _CARRIES))
        kept = np.flatnonzero(kernels | launches | operators | annotations)
        name = np.full(len(events), NONE, np.int64)
        name[kept] = self.names.numbers(names, numpy_numbers(events.name.indices)[kept])
        nothing = np.full(len(events), NONE, np.int64)
        for spans, chosen, keys in (
            (self.kernels, kernels, events.correlation),
            (self.launches, launches, events.correlation),
            (self.operators, operators, events.external),
            (self.annotations, annotations, nothing),
        ):
            rows = np.flatnonzero(chosen)
            columns = (events.start, events.duration, name, lanes, keys)
            spans.add(*(column.take(rows) for column in columns))
        self.is_copy.frombytes(copies[kernels].tobytes())

    def _stream_numbers(self, events: EventColumns, rows: Ints) -> Ints:
        """Of kernels; old ones name their device as process and their stream as thread."""
        device, stream = events.device[rows], events.stream[rows]
        unsaid = np.flatnonzero((device == NONE) | (stream == NONE))
        for row, (event, arguments) in zip(
            unsaid.tolist(), events.parsed(rows[unsaid]), strict=True
        ):
            device[row] = whole(arguments.get("device", event.get("pid")))
            stream[row] = whole(arguments.get("stream", event.get("tid")))
        devices, of_device = coded(device)
        streams, of_stream = coded(stream)
        several = max(len(streams), 1)
        pairs, of_pair = coded(of_device * several + of_stream)
        named = zip(
            devices[pairs // several].tolist(), streams[pairs % several].tolist(), strict=True
        )
        return self.streams.numbers(list(named), of_pair)

    def _note_steps(self, events: EventColumns, rows: Ints, lanes: Ints) -> None:
        for row in rows.tolist():
            step = _NUMBERED.fullmatch(events.name[row].as_py())
            if step is not None:
                start, duration = int(events.start[row]), int(events.duration[row])
                self.steps.append((int(step[1]), start, duration, int(lanes[row])))

    def _note_calls(
        self, events: EventColumns, rows: Ints, lanes: Ints, is_operator: Bools
    ) -> None:
        external = np.where(is_operator[rows], events.external[rows], NONE)
        said = self._said(events, rows)
        if len(rows):
            told = np.array(self._are_operations, np.bool_)[said] & (external != NONE)
            self._operations.update(external[told].tolist())
        self.calls.add(
            events.start[rows],
            events.duration[rows],
            lanes[rows],
            external,
            events.seq[rows],
            said,
        )

    def _note_collective_kernels(self, events: EventColumns, kernels: Bools, named: Bools) -> None:
        rows = np.flatnonzero(kernels & (events.is_described | named))
        numbers = len(self.kernels) + np.cumsum(kernels)[rows] - 1
        external = events.external[rows]
        is_alone = np.array([id_ not in self._operations for id_ in external.tolist()], np.bool_)
        said = np.full(len(rows), NONE, np.int64)
        said[is_alone] = self._said(events, rows[is_alone])
        self.carried.add(numbers, external, events.seq[rows], said)

    def _said(self, events: EventColumns, rows: Ints) -> Ints:
        """The numbers of what the events say; what is new is parsed."""
        if not len(rows):
            return rows
        described = events.described(rows)
        numbers = self._texts.numbers(
            described.dictionary.to_pylist(), numpy_numbers(described.indices)
        )
        new = [_told(json.loads(text)) for text in self._texts.words[len(self.said) :]]
        self.said += new
        self._are_operations += map(is_operation, new)
        return numbers

    def _name_threads(self, events: EventColumns, rows: Ints) -> None:
        for thread, (_, arguments) in zip(
            events.thread[rows].tolist(), events.parsed(rows), strict=True
        ):
            if arguments:
                self.threads[thread] = str(arguments.get("name", ""))[:100]

    def _note_memory(self, events: EventColumns, rows: Ints) -> None:
        """Allocations of torch, each with what is allocated and reserved after it (bytes)."""
        for start, (_, arguments) in zip(
            events.start[rows].tolist(), events.parsed(rows), strict=True
        ):
            if whole(arguments.get("Device Type")) == 1:
                bytes_ = whole(arguments.get("Total Allocated"))
                self.memory.extend((start, bytes_, whole(arguments.get("Total Reserved"))))

    def _leave_out_others(
        self, categories: Sequence[str], category: pa.DictionaryArray, rows: Ints
    ) -> None:
        counts = np.bincount(numpy_numbers(category.indices)[rows])
        for place in np.flatnonzero(counts).tolist():
            self._leave_out(categories[place], int(counts[place]))

    def _leave_out(self, what: str, count: int) -> None:
        if count and (what in self.left_out or len(self.left_out) < 100):
            self.left_out[what] = self.left_out.get(what, 0) + count


def _told(event: Event) -> Event:
    """What counts of an event; equal words are one object, since there may be a million events."""
    arguments = arguments_of(event)
    kept = {key: arguments[key] for key in TOLD if key in arguments}
    for key, value in kept.items():
        if isinstance(value, str):
            kept[key] = sys.intern(value)
    return {"name": event.get("name", ""), "args": kept}


def is_operation(event: Event) -> bool:
    """Whether a call with arguments asks for an operation, and does not wait for one."""
    name = str(arguments_of(event).get(METADATA, ""))
    return operation_named(name) is not None and not name.endswith(WAITS)


@lru_cache(maxsize=1 << 12)
def _marks_of(name: str) -> int:
    """Of a name all that it says. A step has a number; what asks process groups is of c10d."""
    return (
        _STEP * (_NUMBERED.fullmatch(name) is not None)
        + _GLOO * name.startswith("gloo:")
        + _CALL * name.startswith(("c10d::", "_c10d_functional::"))
        + _PARAMETERS * (name == "record_param_comms")
        + _CARRIES * name.startswith(("nccl", "rccl"))
        + _THREAD_NAME * (name == "thread_name")
        + _MEMORY * (name == "[memory]")
    )


def _have(marks: Marks, mark: int) -> Bools:
    found: Bools = (marks & np.uint8(mark)) != 0
    return found


def _by_word(said: Iterable[int], words: pa.DictionaryArray) -> Marks:
    """What is said of each row's word, by what is `said` of the different ones in turn."""
    return np.array([*said], np.uint8).take(numpy_numbers(words.indices))
