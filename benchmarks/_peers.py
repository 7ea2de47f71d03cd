"""What recording adds to a training, and what torch.profiler and viztracer add to the same one.

Estimated is, for each of them, the processor time of the process per recorded step over that of
the same step with nothing of theirs at work, less one, in percent and in the steady state:
starting, stopping and exporting lie outside. The collectives are those of torch's fake backend,
which return at once: gloo's threads take turns in ways that vary by more than what is measured.

All are measured in pairs of neighbours, one part with and one without, in an order that turns from
pair to pair, so that what the machine does meanwhile hits both alike. A figure is the median over
the pairs; `_low` and `_high` are its 95 % interval, which takes the pairs for independent.

* The others can only be switched by starting and stopping them, so their parts are some steps.
* Ours can be switched at any time, and its parts are 50 collectives, a fifth of a step of 100 ms:
  what it adds is small, and most of a virtual machine's noise is slower than that. Without it means
  that the hook is out as well. Three costs lie outside these parts and are added, while some
  seconds of steps are recorded without a gap: `t.step()`, all threads but the training's (the
  writer's above all), and what the training's own thread takes longer in a step in which the writer
  works, since both take turns at the interpreter lock: the median over the parts leaves that out,
  as few parts meet a flush. `_beside` is the second alone. The interval is of the parts alone.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from resource import RUSAGE_THREAD, getrusage
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from benchmarks._figures import median_interval, median_ns, show
from benchmarks._witness import call_between, thread_that_wakes
from tracer import Tracer
from tracer.streams import read_stream

ROUNDS = 5
OPERATIONS = 250
"""Collectives per step, each an event: none of them is waited for separately."""

EVENTS = 500
"""Per step where bytes are counted, as the goal for them has it."""

STEP_NS = 100_000_000

PART = 50
"""Collectives at most between switching our recording on or off."""

STRETCH_S = 4.0
"""How long all steps are recorded: a whole number of flushes, one a second."""

_AT_WORK_NS = 50_000
"""Of processor time that others take in a step from which on it counts as met by a flush."""

Step = Callable[[int], None]
"""Does the work of a step, or of the part of it that has so many collectives."""


@dataclass(frozen=True, slots=True)
class Added:
    """What is added to a step, in percent, with its interval and the number of pairs."""

    percent: float
    low: float
    high: float
    pairs: int

    def show(self, name: str) -> None:
        """Print the three as figures."""
        for end, value in (("", self.percent), ("_low", self.low), ("_high", self.high)):
            show(f"overhead.{name}_percent{end}", value, "percent", self.pairs)


def peers(directory: Path, rounds: int = ROUNDS) -> None:
    """Print what each adds to small steps and to steps of 100 ms, and bytes per event."""
    share = min(1.0, rounds / ROUNDS)
    left, tensor = torch.ones(64, 64), torch.ones(16)

    def multiply() -> None:
        left @ left

    def all_reduce() -> None:
        dist.all_reduce(tensor)

    one = median_ns(multiply, samples=15, calls=300)
    rest = STEP_NS / OPERATIONS - median_ns(all_reduce, samples=15, calls=300)

    def step(operations: int, multiplications: int) -> None:
        for _ in range(operations):
            for _ in range(multiplications):
                multiply()
            all_reduce()

    def small(operations: int) -> None:
        step(operations, 2)

    def long(operations: int) -> None:
        step(operations, round(rest / one))

    def products() -> None:
        for _ in range(round(rest / one)):
            multiply()

    show(
        "overhead.ns_plain_all_reduce_in_step",
        call_between(all_reduce, products, 4 * OPERATIONS),
        "ns",
        4 * OPERATIONS,
    )
    thread_that_wakes(products)
    for name, work, operations, pairs, steps in (
        ("small_step", small, 20, 600, 60),
        ("step_100ms", long, OPERATIONS, 200, 5),
    ):
        ours = _ours(
            directory / name,
            work,
            operations,
            pairs=round(pairs * share),
            seconds=STRETCH_S * share,
        )
        ours.show(name)
        several = max(2, round(steps * share))
        for peer, added in _theirs(directory, work, operations, several, rounds).items():
            added.show(f"{name}_{peer}")
            versus = f"vs_{peer}" if name == "step_100ms" else f"vs_{peer}_{name}"
            times = added.percent / ours.percent
            show(f"overhead.{versus}", times, "times ours", added.pairs)
    least = STEP_NS / EVENTS - median_ns(all_reduce, samples=15, calls=300)
    _bytes(directory, lambda: step(EVENTS, round(least / one)), share)


def _theirs(
    directory: Path, step: Step, operations: int, steps: int, rounds: int
) -> dict[str, Added]:
    """What each peer adds, in two pairs per round, of so many steps with it and without."""
    found = {}
    for peer, way in _peers(directory).items():
        percents = []
        for number in range(2 * rounds):
            pair = (way, _bare) if number % 2 else (_bare, way)
            taken = {one: _step_ns(one(f"{number}"), step, operations, steps) for one in pair}
            percents.append(100 * (taken[way] / taken[_bare] - 1))
        found[peer] = Added(median(percents), *median_interval(percents), len(percents))
    return found


def _ours(directory: Path, step: Step, operations: int, *, pairs: int, seconds: float) -> Added:
    """What recording adds, `seconds` of it being recorded without a gap."""
    part = min(operations, PART)
    bare = vars(dist.ProcessGroup)["allreduce"]
    without, differences = [], []
    with Tracer(directory) as t:
        hooked = vars(dist.ProcessGroup)["allreduce"]
        for number in range(pairs):
            taken = [0, 0]
            for active in (True, False) if number % 2 else (False, True):
                t.recorder.active = active
                dist.ProcessGroup.allreduce = hooked if active else bare
                start = time.thread_time_ns()
                step(part)
                taken[active] = time.thread_time_ns() - start
            without.append(taken[False])
            differences.append(taken[True] - taken[False])
        t.recorder.active = True
        dist.ProcessGroup.allreduce = hooked
        _recorded(t, step, operations, seconds / 4)  # so that flushes have come to their pace
        with _writer(t, directory.name):
            outside, beside = _recorded(t, step, operations, seconds)
    parts = operations / part
    whole = parts * median(without)
    show(f"overhead.{directory.name}_beside_percent", 100 * beside / whole, "percent", 1)

    def percent(difference: float) -> float:
        return 100 * (parts * difference + outside + beside) / whole

    low, high = map(percent, median_interval(differences))
    return Added(percent(median(differences)), low, high, pairs)


def _recorded(t: Tracer, step: Step, operations: int, seconds: float) -> tuple[float, float]:
    """Processor ns per recorded step that the parts leave out, of this thread and of the others.

    Of this one: `t.step()`, and what it takes longer in steps in which another one worked.
    """
    own, ends, others = [], [], []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process, thread = time.process_time_ns(), time.thread_time_ns()
        step(operations)
        worked = time.thread_time_ns()
        t.step()
        ended = time.thread_time_ns()
        own.append(worked - thread)
        ends.append(ended - worked)
        others.append(time.process_time_ns() - process - (ended - thread))
    alone = [taken for taken, more in zip(own, others, strict=True) if more < _AT_WORK_NS]
    turns = [taken for taken, more in zip(own, others, strict=True) if more >= _AT_WORK_NS]
    # Where every step meets a flush, or none does, nothing tells them apart.
    longer = sum(turns) - len(turns) * median(alone) if alone and turns else 0.0
    return median(ends) + longer / len(own), sum(others) / len(own)


@contextmanager
def _writer(t: Tracer, name: str) -> Iterator[None]:
    """Print what a flush took meanwhile: processor time, and how often the writer thread slept
    within it, as for the interpreter lock.
    """
    notes: list[tuple[int, int]] = []

    def note() -> None:
        notes.append((time.thread_time_ns(), getrusage(RUSAGE_THREAD).ru_nvcsw))

    t.recorder.on_flush.append(note)
    yield
    t.recorder.on_flush.remove(note)
    flushes = [(b[0] - a[0], b[1] - a[1] - 1) for a, b in pairwise(notes)]  # one sleep is between
    if flushes:
        taken, sleeps = (median(column) for column in zip(*flushes, strict=True))
        show(f"overhead.{name}_flush_ms", taken / 1e6, "ms", len(flushes))
        show(f"overhead.{name}_flush_sleeps", sleeps, "sleeps", len(flushes))


def _step_ns(way: Any, step: Step, operations: int, steps: int) -> float:
    """Mean processor time of a step; the first one, in which things are set up, does not count."""
    taken = []
    with way as ends:
        for _ in range(steps):
            start = time.process_time_ns()
            step(operations)
            ends()
            taken.append(time.process_time_ns() - start)
    return sum(taken[1:]) / len(taken[1:])


@contextmanager
def _bare(number: str) -> Iterator[Callable[[], None]]:
    yield lambda: None


def _peers(directory: Path) -> dict[str, Callable[[str], Any]]:
    @contextmanager
    def torch_profiler(number: str) -> Iterator[Callable[[], None]]:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            yield profiler.step

    ways: dict[str, Callable[[str], Any]] = {"torch_profiler": torch_profiler}
    try:
        from viztracer import VizTracer
    except ImportError:
        return ways

    @contextmanager
    def viztracer(number: str) -> Iterator[Callable[[], None]]:
        tracer = VizTracer(verbose=0, output_file=str(directory / f"viz-{number}.json"))
        tracer.start()
        try:
            yield lambda: None
        finally:
            tracer.stop()

    return ways | {"viztracer": viztracer}


def _bytes(directory: Path, step: Callable[[], None], share: float) -> None:
    """Bytes per event of one recording each, ours with one flush a second as by default.

    Of `share` 1 ours lasts 10 s, and torch.profiler's has five steps.

    A file has 5 kB and each flush 1.5 kB that do not depend on the number of events.
    """
    run = directory / "bytes"
    with Tracer(run) as t:
        deadline = time.monotonic() + 10 * share
        while time.monotonic() < deadline:
            step()
            t.step()
    file = run / "rank-00000.arrows"
    events = read_stream(file, "events").table.num_rows
    show("disk.bytes_per_event", file.stat().st_size / events, "bytes", events)

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(max(1, round(5 * share))):
            step()
    exported = directory / "kineto.json"
    profiler.export_chrome_trace(str(exported))
    text = exported.read_bytes()
    spans = sum(event.get("ph") == "X" for event in json.loads(text)["traceEvents"])
    show("disk.kineto_json_bytes_per_event", len(text) / spans, "bytes", spans)
    show("disk.kineto_gzip_bytes_per_event", len(gzip.compress(text)) / spans, "bytes", spans)
