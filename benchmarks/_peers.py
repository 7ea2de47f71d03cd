"""The same training bare, with the tracer, with torch.profiler and with viztracer, interleaved.

A round runs some steps each way, in an order that turns from round to round, and compares the
median step with the bare one of the same round: a slow phase of the machine hits all of them.
Starting and stopping is outside the steps (a profiler's `stop` takes long, but is not in the
loop). Compared is the processor time of the whole process: background threads count in full, and
other work on the machine counts little.
"""

from __future__ import annotations

import gzip
import json
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

ROUNDS = 7
OPERATIONS = 250
"""Collectives per step: an event for the call and one for the wait of each."""

STEP_NS = 100_000_000


def peers(directory: Path) -> None:
    """Print what each adds to small steps and to steps of 100 ms, and bytes per event."""
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

    _compare("small_step", directory / "small", lambda: step(20, 2), steps=60)
    _compare(
        "step_100ms", directory / "long", lambda: step(OPERATIONS, round(rest / one)), steps=12
    )
    _bytes(directory, lambda: step(20, 2))


def _compare(name: str, directory: Path, step: Callable[[], None], *, steps: int) -> None:
    directory.mkdir()
    ways = _ways(directory)
    added: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS):
        order = list(ways)
        order = order[number % len(order) :] + order[: number % len(order)]
        taken = {way: _step_ns(ways[way], f"{number}", step, steps) for way in order}
        for way in ways:
            added[way].append(100 * (taken[way] / taken["bare"] - 1))
    figures = {way: median(values) for way, values in added.items()}
    show(f"overhead.{name}_percent", figures["rankscope"], "percent", ROUNDS)
    for peer in ("torch_profiler", "viztracer"):
        if peer in figures:
            show(f"overhead.{name}_{peer}_percent", figures[peer], "percent", ROUNDS)
            ratio = figures[peer] / max(figures["rankscope"], 1e-3)
            suffix = "" if name == "step_100ms" else f"_{name}"
            show(f"overhead.vs_{peer}{suffix}", ratio, "times ours", ROUNDS)


def _step_ns(way: Callable[[str], Any], number: str, step: Callable[[], None], steps: int) -> float:
    taken = []
    with way(number) as ends:
        for _ in range(steps):
            start = time.process_time_ns()
            step()
            ends()
            taken.append(time.process_time_ns() - start)
    return sum(taken[1:]) / len(taken[1:])


def _ways(directory: Path) -> dict[str, Callable[[str], Any]]:
    @contextmanager
    def bare(number: str) -> Iterator[Callable[[], None]]:
        yield lambda: None

    @contextmanager
    def rankscope(number: str) -> Iterator[Callable[[], None]]:
        with Tracer(directory / f"run-{number}") as t:
            yield t.step

    @contextmanager
    def torch_profiler(number: str) -> Iterator[Callable[[], None]]:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            yield profiler.step

    ways = {"bare": bare, "rankscope": rankscope, "torch_profiler": torch_profiler}
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
    """Bytes per event of one recording each, ours with one flush a second as by default."""
    run = directory / "bytes"
    with Tracer(run) as t:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            step()
            t.step()
    file = run / "rank-00000.arrows"
    events = read_stream(file, "events").table.num_rows
    show("disk.bytes_per_event", file.stat().st_size / events, "bytes", events)

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(200):
            step()
    exported = directory / "kineto.json"
    profiler.export_chrome_trace(str(exported))
    text = exported.read_bytes()
    spans = sum(event.get("ph") == "X" for event in json.loads(text)["traceEvents"])
    show("disk.kineto_json_bytes_per_event", len(text) / spans, "bytes", spans)
    show("disk.kineto_gzip_bytes_per_event", len(gzip.compress(text)) / spans, "bytes", spans)
