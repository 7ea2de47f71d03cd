"""The events of one simulated rank: which rows a step has, and when each was."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.simulated.clocks import HostClock
from benchmarks.simulated.statistics import draw
from benchmarks.simulated.training import Block, Training
from tracer.arrays import number_array
from tracer.batches import last_operations, spread
from tracer.rings import OF_OPERATIONS
from tracer.run_files import GroupFacts
from tracer.schema import EVENT_SCHEMA
from tracer.topology import compress

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NONE: Final = -1
"""Stands for null until the columns are made."""
_LETTER: Final = {
    "forward": "F", "backward": "B", "backward_input": "I", "backward_weight": "W",
}  # fmt: skip
_ELEMENT: Final = 4
_DTYPE: Final = "float32"
_KERNELS: Final = ("gemm", "softmax", "layer_norm", "gelu")
_HOST, _KERNEL_LANE = "host:main", "device:7 kernels"
_PER_STEP: Final = ("seq", "correlation")
"""Columns that count up from step to step."""


@dataclass(kw_only=True, slots=True)
class _Words:
    """Words by number, for a dictionary of Arrow."""

    numbers: dict[str, int]

    def __call__(self, word: str) -> int:
        return self.numbers.setdefault(word, len(self.numbers))


class RankRows:
    """Makes the events of one rank, block by block; `kernels` in each action on its device."""

    def __init__(self, training: Training, rank: int, *, kernels: int, clock: HostClock) -> None:
        self._training = training
        self.rank = rank
        self._clock = clock
        self._kernels = kernels
        self._pipeline, self._tensor, self._data = training.shape.place(rank)
        self.groups = _groups(training, rank)
        self._of_dim = {facts.dim: name for name, facts in self.groups.items()}
        self._mine = [n for n, task in enumerate(training.tasks) if task.rank == self._pipeline]
        self._words = {name: _Words(numbers={}) for name in _WORD_COLUMNS}
        self._random = np.random.default_rng((training.seed, rank))
        rows = list(self._rows())
        self.rows_per_step = len(rows)
        self._static = {
            name: np.array([row.get(name, _NONE) for row in rows], np.int64) for name in _FILLED
        }
        self._counts = {
            "seq": np.array([row.get("per_step", 0) for row in rows], np.int64),
            "correlation": np.array(
                [self._operations if "correlation" in row else 0 for row in rows], np.int64
            ),
        }

    @property
    def stages(self) -> tuple[int, ...]:
        """The pipeline stages that it holds."""
        tasks = self._training.tasks
        return tuple(sorted({tasks[n].action.stage for n in self._mine}))

    def batch(self, block: Block) -> pa.RecordBatch:
        """Its events of these steps, each step's in order of their ends."""
        begin, end = self._times(block)
        steps = np.arange(len(begin)) + block.first_step
        order = np.argsort(end, axis=1, kind="stable")
        raw_begin = self._clock.raw(np.take_along_axis(begin, order, axis=1)).ravel()
        raw_end = self._clock.raw(np.take_along_axis(end, order, axis=1)).ravel()
        columns = {"start": raw_begin, "duration": raw_end - raw_begin}
        columns["step"] = np.repeat(steps, self.rows_per_step)
        for name, values in self._static.items():
            columns[name] = values[order].ravel()
        for name in _PER_STEP:
            moved = columns[name] + (steps[:, None] * self._counts[name][order]).ravel()
            columns[name] = np.where(columns[name] == _NONE, _NONE, moved)
        carried = last_operations(columns["correlation"] != _NONE)
        arrays = [self._array(field, columns, carried) for field in EVENT_SCHEMA]
        return pa.record_batch(arrays, schema=EVENT_SCHEMA)

    def _rows(self) -> Iterator[dict[str, int]]:
        """What of each row of a step is known before its times, in the order of `_times`."""
        tasks, found = self._training.tasks, self._training.found
        word, peers = self._words, self._messages()
        operations = self._operation_numbers()
        yield self._row("step", "step")
        for number in self._mine:
            action = tasks[number].action
            yield self._row(action.kind, _LETTER[action.kind], number)
        per_step = sum(tasks[n].collectives for n in self._mine)
        called = [n for n in self._mine for _ in range(tasks[n].collectives)]
        for kind in ("collective", "wait"):
            for place, number in enumerate(called):
                at = operations["tp", place]
                size = found.bytes.get("tp", 0)
                row = self._operation(kind, "all_reduce", "tp", place, per_step, at, size)
                yield self._row(kind, "all_reduce", number) | row
        for op in ("recv", "send"):
            for kind in (op, "wait"):
                for number, (peer, seq, count) in peers[op].items():
                    at, size = operations[op, number], found.bytes.get("pp", 0)
                    row = self._operation(kind, op, "pp", seq, count, at, size)
                    yield self._row(kind, op, number) | row | {"peer": peer}
        if "dp" in self._of_dim:
            for kind in ("collective", "wait"):
                size = found.bytes.get("dp", 0) or _ASSUMED_GRADIENTS
                row = self._operation(kind, "all_reduce", "dp", 0, 1, operations["dp", 0], size)
                yield self._row(kind, "all_reduce") | row
        yield self._row("optimizer", "step of the optimizer")
        for number in self._mine:
            for kernel in range(self._kernels):
                row = self._row("kernel", _KERNELS[kernel % len(_KERNELS)], number)
                yield row | {"lane": word["lane"](_KERNEL_LANE)}

    def _times(self, block: Block) -> tuple[Floats, Floats]:
        """(step, row): begin and end of each of `_rows`."""
        tasks, mine, replica = self._training.tasks, self._mine, (self._tensor, self._data)
        peers, calls = self._messages(), self._training.found.call_ns
        steps = len(block.begin)

        def of(values: Floats, numbers: list[int]) -> Floats:
            return values[(slice(None), numbers, *replica)]

        def of_rank(values: Floats) -> Floats:
            return values[(slice(None), [self._pipeline], *replica)]

        def call(kind: str, most: Floats) -> Floats:
            """How long calls take, at most so long."""
            return np.minimum(draw(self._random, calls[kind], most.shape), most)

        own = block.begin[:, self._pipeline, self._tensor, self._data]
        after = block.after[self._pipeline, self._tensor, self._data]
        spans = [(own[:, None], np.append(own[1:], after)[:, None])]
        spans.append((of(block.start, mine), of(block.end, mine)))

        called = [(n, k) for n in mine for k in range(tasks[n].collectives)]
        numbers, inside = [n for n, _ in called], [k for _, k in called]
        where = (slice(None), numbers, inside, *replica)
        arrived, met = block.arrived[where], block.met[where]
        done = arrived + call("collective", 0.5 * (met - arrived))
        spans += [(arrived, done), (done, met)]

        received = list(peers["recv"])
        posted, start = of(block.posted, received), of(block.start, received)
        least = np.minimum(of(block.turnaround, received), start - posted)
        post = posted + 0.5 * least
        done = post + call("recv", 0.2 * least)
        late = of(block.hand_over, [tasks[n].need for n in received])
        arrival = np.maximum(start - 0.05 * np.minimum(least, late), done)
        spans += [(post, done), (done, arrival)]

        sent = list(peers["send"])
        end, room = (
            of(block.end, sent),
            np.minimum(of(block.turnaround, sent), of(block.hand_over, sent)),
        )
        done = end + 0.1 * room + call("send", 0.2 * room)
        spans += [(end + 0.1 * room, done), (done, done + 0.1 * room)]

        reduce, reduced = of_rank(block.reduce), of_rank(block.reduced)
        if "dp" in self._of_dim:
            done = reduce + call("collective", 0.5 * (reduced - reduce))
            spans += [(reduce, done), (done, reduced)]
        spans.append((reduced, of_rank(block.updated)))
        if self._kernels:
            begin, end = (of(values, mine)[:, :, None] for values in (block.start, block.end))
            each = (end - begin) / self._kernels
            first = begin + each * np.arange(self._kernels)
            last = first + each * self._random.uniform(0.5, 0.95, first.shape)
            spans.append((first.reshape(steps, -1), last.reshape(steps, -1)))
        return (
            np.concatenate([begin for begin, _ in spans], axis=1),
            np.concatenate([end for _, end in spans], axis=1),
        )

    def _row(self, kind: str, name: str, number: int | None = None) -> dict[str, int]:
        """A row on the host's lane; `number`: the task that it belongs to."""
        row = {
            column: self._words[column](said)
            for column, said in (("kind", kind), ("name", name), ("lane", _HOST))
        }
        if number is None:
            return row
        action = self._training.tasks[number].action
        return row | {"stage": action.stage, "microbatch": action.microbatch}

    def _operation(
        self, kind: str, op: str, dim: str, seq: int, per_step: int, number: int, size: int
    ) -> dict[str, int]:
        return {
            "group": self._words["group"](self._of_dim[dim]),
            "seq": seq,
            "per_step": per_step,
            "bytes": size,
            "count": size // _ELEMENT,
            "dtype": self._words["dtype"](_DTYPE),
            "correlation": number + 1,
        }

    def _messages(self) -> dict[str, dict[int, tuple[int, int, int]]]:
        """By `recv` and `send`, and task: peer, number of the message from its source to its
        destination in the step, and how many there are.

        The sender numbers them; a message belongs to the task that it comes from.
        """
        tasks, shape = self._training.tasks, self._training.shape
        numbers: dict[int, int] = {}
        count: Counter[tuple[int, int]] = Counter()
        for number, task in enumerate(tasks):
            if task.gives_to >= 0:
                numbers[number] = count[task.rank, task.gives_to]
                count[task.rank, task.gives_to] += 1
        found: dict[str, dict[int, tuple[int, int, int]]] = defaultdict(dict)
        for number in self._mine:
            task = tasks[number]
            if task.elsewhere:
                source = tasks[task.need].rank
                peer = shape.rank(source, self._tensor, self._data)
                found["recv"][number] = peer, numbers[task.need], count[source, task.rank]
            if task.gives_to >= 0:
                peer = shape.rank(task.gives_to, self._tensor, self._data)
                found["send"][number] = peer, numbers[number], count[task.rank, task.gives_to]
        return found

    def _operation_numbers(self) -> dict[tuple[str, int], int]:
        """Operations of a step in the order in which the rank issues them."""
        tasks, peers = self._training.tasks, self._messages()
        order: list[tuple[str, int]] = []
        place = 0
        for number in self._mine:
            order += [("recv", number)] if number in peers["recv"] else []
            order += [("tp", place + k) for k in range(tasks[number].collectives)]
            place += tasks[number].collectives
            order += [("send", number)] if number in peers["send"] else []
        order.append(("dp", 0))
        self._operations = len(order)
        return {key: number for number, key in enumerate(order)}

    def _array(
        self, field: pa.Field, columns: dict[str, Ints], carried: npt.NDArray[np.intp] | None
    ) -> pa.Array:
        """As the recorder has it (tracer/batches.py), so that it takes as many bytes."""
        if field.name not in columns:
            return pa.nulls(len(columns["start"]), field.type)
        values = columns[field.name]
        valid = values != _NONE if field.nullable else None
        if carried is not None and field.name in OF_OPERATIONS:
            values = values[carried]
        if field.name == "correlation":
            values = spread(values)
        if field.name not in _WORD_COLUMNS:
            return number_array(values.astype(field.type.to_pandas_dtype()), valid)
        words = list(self._words[field.name].numbers) or [""]
        indices = number_array(values.astype(np.int32), valid)
        return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


_WORD_COLUMNS: Final = ("kind", "name", "lane", "group", "dtype")
_FILLED: Final = (
    *_WORD_COLUMNS, "stage", "microbatch", "seq", "peer", "bytes", "count", "correlation",
)  # fmt: skip
_ASSUMED_GRADIENTS: Final = 64 << 20
"""Bytes of a stage's gradients, where no reduction was recorded."""


def _groups(training: Training, rank: int) -> dict[str, GroupFacts]:
    """Its process groups of more than one rank, by name."""
    shape: Any = training.shape
    i, j, k = shape.place(rank)
    members = {
        "tp": [shape.rank(i, tensor, k) for tensor in range(shape.t)],
        "pp": [shape.rank(pipeline, j, k) for pipeline in range(shape.plan.p)],
        "dp": [shape.rank(i, j, data) for data in range(shape.d)],
    }
    return {
        f"{dim}:{compress(ranks)}": GroupFacts(dim=dim, ranks=tuple(ranks))
        for dim, ranks in members.items()
        if len(ranks) > 1
    }
