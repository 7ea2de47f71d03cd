"""What recording adds to a training, and what torch.profiler and viztracer add to the same one.

Estimated is, for each of them, the processor time of the process per recorded step over that of
the same step with nothing of theirs at work, less one, in percent and in the steady state:
starting, stopping and exporting lie outside. The collectives are those of torch's fake backend,
which return at once: gloo's threads take turns in ways that vary by more than what is measured.
Waits are in none of the figures of ours: what the fake backend hands out has a `wait` of its own,
which is not the one that is hooked.

All are measured in pairs of neighbours, one part with and one without, in an order that turns from
pair to pair, so that what the machine does meanwhile hits both alike. A figure is the median over
the pairs; `_low` and `_high` are its 95 % interval, which takes the pairs for independent.

* The others can only be switched by starting and stopping them, so their parts are some steps.
* Ours can be switched at any time, and its parts are 50 collectives, a fifth of a step of 100 ms:
  what it adds is small, and most of a virtual machine's noise is slower than that. Without it means
  that the hook is out as well; the first collectives after a switch, of which Python looks the
  method up anew, are in neither part. Three costs lie outside these parts and are added, while some
  seconds of steps are recorded without a gap: `t.step()`, all threads but the training's (the
  writer's above all: `_beside`), and what the training's own thread takes longer while another one
  works, since both take turns at the interpreter lock (`_turns`). The interval is of the parts
  alone.

Each pair has its operand at another place. Where it lies, and where the allocator then puts the
products of the one and the other part, changes a product by up to a percent, in one process always
the same way: of one version that told 1.5, 3.7 and 6.7 us per collective, and 3.2, 3.7 and 4.3 from
different places.

What the training takes longer is compared with what it took just before and just after, since steps
of 100 ms differ by more from each other: four of them that met a flush told a cost of two percent
of all steps once, and none the next time.

`vs_` is what the other adds over what ours adds, both over all rounds; each round measures all of
them, so that a phase of the machine hits both sides. `vs_…_low` and `_high` are the low end of the
one interval over the high end of the other, and the reverse: wider than 95 %. (The median of each
round's own ratio would flatter ours: where it is small by chance, the ratio is large by more.)
"""

from __future__ import annotations

import gzip
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import randrange
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from benchmarks._figures import median_interval, median_ns, show
from benchmarks._ours import Step, record_steps, show_ours
from benchmarks._witness import call_between, thread_that_wakes
from tracer import Tracer
from tracer.streams import read_stream

ROUNDS = 6
"""The least of which the interval of a median is one."""

OPERATIONS = 250
"""Collectives per step, each an event: none of them is waited for separately."""

EVENTS = 500
"""Per step where bytes are counted, as the goal for them has it."""

STEP_NS = 100_000_000

STRETCH_S = 2.0
"""How long all steps are recorded in a round: a whole number of flushes, one a second."""

_ENDS = "", "_low", "_high"

_HOLES, _HOLE, _LINE = 20, 20_000, 16
"""At most so many tensors of so many elements before an operand; elements of a cache line."""


def peers(directory: Path, rounds: int = ROUNDS) -> None:
    """Print what each adds to small steps and to steps of 100 ms, and bytes per event."""
    share = min(1.0, rounds / ROUNDS)
    seconds = STRETCH_S * share
    tensor, left, holes = torch.ones(16), torch.ones(64, 64), list[torch.Tensor]()

    def elsewhere() -> None:
        nonlocal left, holes
        holes = [torch.empty(randrange(1, _HOLE)) for _ in range(randrange(1, _HOLES))]
        begin = _LINE * randrange(_LINE)
        left = torch.ones(64 * 64 + _LINE * _LINE)[begin : begin + 64 * 64].view(64, 64)

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
        ours, theirs = [], defaultdict[str, list[float]](list)
        for number in range(rounds):
            at = directory / f"{name}-{number}"
            ours.append(
                record_steps(
                    at, work, operations, elsewhere, pairs=pairs // ROUNDS, seconds=seconds
                )
            )
            several = max(2, round(steps * share))
            for peer, percents in _theirs(directory, work, operations, elsewhere, several):
                theirs[peer] += percents
        middle, low, high = show_ours(name, ours)
        for peer, percents in theirs.items():
            versus = f"vs_{peer}" if name == "step_100ms" else f"vs_{peer}_{name}"
            values = median(percents), *median_interval(percents)
            for end, value, other_end in zip(_ENDS, values, (middle, high, low), strict=True):
                show(f"overhead.{name}_{peer}_percent{end}", value, "percent", len(percents))
                if other_end > 0:
                    show(f"overhead.{versus}{end}", value / other_end, "times ours", len(percents))
    least = STEP_NS / EVENTS - median_ns(all_reduce, samples=15, calls=300)
    _bytes(directory, lambda: step(EVENTS, round(least / one)), share)


def _theirs(
    directory: Path, step: Step, operations: int, elsewhere: Callable[[], None], steps: int
) -> Iterator[tuple[str, list[float]]]:
    """What each peer adds, in percent, in two pairs of so many steps with it and without."""
    for peer, way in _peers(directory).items():
        percents = []
        for number in range(2):
            elsewhere()
            pair = (way, _bare) if number % 2 else (_bare, way)
            taken = {one: _step_ns(one(f"{number}"), step, operations, steps) for one in pair}
            percents.append(100 * (taken[way] / taken[_bare] - 1))
        yield peer, percents


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
