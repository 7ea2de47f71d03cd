"""What recording adds to a training, and what torch.profiler and viztracer add to the same one.

Ours is small, so it is measured as the difference of neighbouring steps, with and without
recording, in the processor time of the training's thread (median of all pairs), plus the
processor time of the writer thread divided by the recorded steps. The others are compared with
bare steps round by round, in an order that turns, by the processor time of the process. Starting
and stopping is outside the steps. The collectives are those of torch's fake backend, which return
at once: gloo's threads take turns in ways that vary by more than what is measured.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from benchmarks._figures import median_ns, show
from tracer import Tracer
from tracer.streams import read_stream

ROUNDS = 5
OPERATIONS = 250
"""Collectives per step, each an event: none of them is waited for separately."""

EVENTS = 500
"""Per step where bytes are counted, as the goal for them has it."""

STEP_NS = 100_000_000


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

    small, long = round(60 * share), max(2, round(12 * share))
    _compare("small_step", directory / "small", lambda: step(20, 2), small, rounds)
    _compare(
        "step_100ms", directory / "long", lambda: step(OPERATIONS, round(rest / one)), long, rounds
    )
    least = STEP_NS / EVENTS - median_ns(all_reduce, samples=15, calls=300)
    _bytes(directory, lambda: step(EVENTS, round(least / one)))


def _compare(name: str, directory: Path, step: Callable[[], None], steps: int, rounds: int) -> None:
    directory.mkdir()
    ours = _ours(directory / "pairs", step, pairs=6 * steps)
    show(f"overhead.{name}_percent", ours, "percent", 6 * steps)
    ways = _peers(directory)
    added: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        order = list(ways)
        order = order[number % len(order) :] + order[: number % len(order)]
        taken = {way: _step_ns(ways[way], f"{number}", step, steps) for way in order}
        for way in ways:
            added[way].append(100 * (taken[way] / taken["bare"] - 1))
    for peer in [way for way in ways if way != "bare"]:
        percent = median(added[peer])
        show(f"overhead.{name}_{peer}_percent", percent, "percent", rounds)
        suffix = "" if name == "step_100ms" else f"_{name}"
        show(f"overhead.vs_{peer}{suffix}", percent / ours, "times ours", rounds)


def _ours(directory: Path, step: Callable[[], None], *, pairs: int) -> float:
    """Percent that recording adds to a step: the training's thread and the writer's."""
    differences, bare = [], []
    with Tracer(directory) as t:
        writer = next(each for each in threading.enumerate() if each.name == "rankscope-writer")
        clock = time.pthread_getcpuclockid(writer.ident or 0)
        writer_began = time.clock_gettime_ns(clock)
        for _ in range(pairs):
            taken = []
            for active in (False, True):
                t.recorder.active = active
                start = time.thread_time_ns()
                step()
                t.step()
                taken.append(time.thread_time_ns() - start)
            bare.append(taken[0])
            differences.append(taken[1] - taken[0])
        writing = (time.clock_gettime_ns(clock) - writer_began) / pairs
    return 100 * (median(differences) + writing) / median(bare)


def _step_ns(way: Callable[[str], Any], number: str, step: Callable[[], None], steps: int) -> float:
    taken = []
    with way(number) as ends:
        for _ in range(steps):
            start = time.process_time_ns()
            step()
            ends()
            taken.append(time.process_time_ns() - start)
    return sum(taken[1:]) / len(taken[1:])


def _peers(directory: Path) -> dict[str, Callable[[str], Any]]:
    @contextmanager
    def bare(number: str) -> Iterator[Callable[[], None]]:
        yield lambda: None

    @contextmanager
    def torch_profiler(number: str) -> Iterator[Callable[[], None]]:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            yield profiler.step

    ways = {"bare": bare, "torch_profiler": torch_profiler}
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


def _bytes(directory: Path, step: Callable[[], None]) -> None:
    """Bytes per event of one recording each, ours with one flush a second as by default.

    A file has 5 kB and each flush 1.5 kB that do not depend on the number of events.
    """
    run = directory / "bytes"
    with Tracer(run) as t:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            step()
            t.step()
    file = run / "rank-00000.arrows"
    events = read_stream(file, "events").table.num_rows
    show("disk.bytes_per_event", file.stat().st_size / events, "bytes", events)

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(5):
            step()
    exported = directory / "kineto.json"
    profiler.export_chrome_trace(str(exported))
    text = exported.read_bytes()
    spans = sum(event.get("ph") == "X" for event in json.loads(text)["traceEvents"])
    show("disk.kineto_json_bytes_per_event", len(text) / spans, "bytes", spans)
    show("disk.kineto_gzip_bytes_per_event", len(gzip.compress(text)) / spans, "bytes", spans)
