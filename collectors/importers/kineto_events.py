"""The events of one Kineto file as compact columns: what each is, and when it was.

Some 12 bytes per event are kept until the file ends, since a kernel may come before its launch.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.importers.chrome_json import Event
from collectors.importers.growing_columns import Calls, Carried, Spans, Words
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
from tracer.arrays import bool_array, number_array, numpy_numbers
from tracer.errors import DamagedTrace

_MOST_EVENTS: Final = 100_000_000
"""Of one file: some 1.2 GB of columns. A step of a large model has some 100,000."""

_COPIES: Final = frozenset(("gpu_memcpy", "gpu_memset", "memcpy", "memset"))
"""Categories; the names without `gpu_` are of torch before 1.11."""
_KERNELS: Final = _COPIES | {"kernel"}
_LAUNCHES: Final = frozenset(
    ("cuda_runtime", "cuda_driver", "runtime", "driver", "hip_runtime", "privateuse1_runtime")
)
_OPERATORS: Final = frozenset(("cpu_op", "operator"))
TOLD: Final = (
    *(METADATA, "dtype", "In msg nelems", "Out msg nelems", "Src Rank", "Dst Rank", "Group size"),
    *("Process Group Name", "Process Group Description", "Process Group Ranks"),
)
"""Arguments that say what an operation is."""
WAITS: Final = ("wait", "wait_tensor")
"""How names of waits end."""
_STEP: Final = re.compile(r"ProfilerStep\s*#\s*(\d{1,9})")
_COMMUNICATION: Final = re.compile(r"c10d::|_c10d_functional::")


_Tests = Callable[[Callable[[str], bool]], Bools]


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
        phase, category, name = map(_tests, (events.phase, events.category, events.name))
        self._spans(events, phase("X".__eq__), category, name)
        named = phase("M".__eq__) & name("thread_name".__eq__)
        self._name_threads(events, np.flatnonzero(named))
        memory = phase("i".__eq__) & name("[memory]".__eq__)
        self._note_memory(events, np.flatnonzero(memory & (events.start != NO_TIME)))

    def end(self) -> None:
        """Nothing more of the file comes: what only reading it needs is let go."""
        self._texts, self._are_operations, self._operations = Words(), [], set()

    def _spans(self, events: EventColumns, is_span: Bools, category: _Tests, name: _Tests) -> None:
        self._events += int(is_span.sum())
        if self._events > _MOST_EVENTS:
            raise DamagedTrace(f"more than {_MOST_EVENTS:,} events in one file")
        self.is_coarse |= bool((events.is_coarse & is_span).any())
        timed = is_span & (events.start != NO_TIME) & (events.duration >= 0)
        self._leave_out("events without a time", int((is_span & ~timed).sum()))

        kernels = timed & category(_KERNELS.__contains__)
        launches = timed & category(_LAUNCHES.__contains__)
        operators = timed & category(_OPERATORS.__contains__)
        annotations = timed & category("user_annotation".__eq__)
        self._leave_out_others(events, timed & ~(kernels | launches | operators | annotations))

        lanes = np.full(len(events), NONE, np.int64)
        lanes[timed & ~kernels] = self.tids.numbers(_encoded(events.thread[timed & ~kernels]))
        lanes[kernels] = self._stream_numbers(events, np.flatnonzero(kernels))

        steps = annotations & name(lambda word: _STEP.fullmatch(word) is not None)
        gloo = annotations & name(lambda word: word.startswith("gloo:"))
        self._leave_out("gloo", int(gloo.sum()))
        calls = annotations & ~steps & ~gloo & events.is_described
        annotations &= ~(steps | gloo | calls)
        is_call = name(lambda word: _COMMUNICATION.match(word) is not None)
        calls |= operators & (events.is_described | is_call)
        operators &= ~name("record_param_comms".__eq__)

        self._note_steps(events, np.flatnonzero(steps), lanes)
        self._note_calls(events, np.flatnonzero(calls), lanes, category(_OPERATORS.__contains__))
        named = name(lambda word: word.startswith(("nccl", "rccl")))
        self._note_collective_kernels(events, kernels, named)
        kept = kernels | launches | operators | annotations
        names = np.full(len(events), NONE, np.int64)
        names[kept] = self.names.numbers(events.name.filter(bool_array(kept)))
        nothing = np.full(len(events), NONE, np.int64)
        for spans, chosen, keys in (
            (self.kernels, kernels, events.correlation),
            (self.launches, launches, events.correlation),
            (self.operators, operators, events.external),
            (self.annotations, annotations, nothing),
        ):
            rows = np.flatnonzero(chosen)
            columns = (events.start, events.duration, names, lanes, keys)
            spans.add(*(column.take(rows) for column in columns))
        copies = category(_COPIES.__contains__)[kernels]
        self.is_copy.frombytes(copies.astype("b").tobytes())

    def _stream_numbers(self, events: EventColumns, rows: Ints) -> Ints:
        """Of kernels; old ones name their device as process and their stream as thread."""
        device, stream = events.device[rows], events.stream[rows]
        unsaid = np.flatnonzero((device == NONE) | (stream == NONE))
        for row, (event, arguments) in zip(
            unsaid.tolist(), events.parsed(rows[unsaid]), strict=True
        ):
            device[row] = whole(arguments.get("device", event.get("pid")))
            stream[row] = whole(arguments.get("stream", event.get("tid")))
        devices, streams = _encoded(device), _encoded(stream)
        several = max(len(streams.dictionary), 1)
        pairs = numpy_numbers(devices.indices) * np.int64(several) + numpy_numbers(streams.indices)
        used = _encoded(pairs)
        numbers = [
            self.streams.number(
                (
                    devices.dictionary[pair // several].as_py(),
                    streams.dictionary[pair % several].as_py(),
                )
            )
            for pair in used.dictionary.to_pylist()
        ]
        found: Ints = np.array(numbers, np.int64)[numpy_numbers(used.indices)]
        return found

    def _note_steps(self, events: EventColumns, rows: Ints, lanes: Ints) -> None:
        for row in rows.tolist():
            step = _STEP.fullmatch(events.name[row].as_py())
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
        numbers = self._texts.numbers(events.described(rows))
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

    def _leave_out_others(self, events: EventColumns, rows: Bools) -> None:
        if not rows.any():
            return
        counts = Words()
        numbers = counts.numbers(events.category.filter(bool_array(rows)))
        for word, count in zip(counts.words, np.bincount(numbers).tolist(), strict=False):
            self._leave_out(word, count)

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


def _tests(words: pa.DictionaryArray) -> _Tests:
    """Which words pass a test, that each different one is put to once."""
    distinct, indices = words.dictionary.to_pylist(), numpy_numbers(words.indices)

    def are(test: Callable[[str], bool]) -> Bools:
        passed = np.array([test(word) for word in distinct], np.bool_)
        found: Bools = passed.take(indices) if passed.any() else np.zeros(len(indices), np.bool_)
        return found

    return are


def _encoded(numbers: npt.NDArray[np.int64]) -> pa.DictionaryArray:
    return number_array(numbers).dictionary_encode()
