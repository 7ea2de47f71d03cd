"""Record for a long time at the full event rate, and look whether anything grows or is miscounted.

  python -m tests.reliability.soak --minutes 30 [--ranks 2] [--json FILE]

Each rank trains a small model with collectives, while three threads record spans as fast as they
can: bursts that run over their rings now and then, and pauses in between so that the average is
`--rate`. One of the threads is a new one for each burst. Resident memory, open files and threads
are sampled all the time, and every thread counts for itself how many events it offered. The exit
code is 1 where memory or files grew, a file does not open, or an event is neither in the file nor
among the dropped ones; 2 where the disk is too small.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.distributed as dist
from torch import nn

from tracer import Tracer
from tracer.rings import RING_CAPACITY
from tracer.run_files import read_rank_facts
from tracer.schema import GARBAGE_COLLECTION, counters_file, events_file

THREADS: Final = 3
BURST: Final = RING_CAPACITY + RING_CAPACITY // 4
"""Spans of one burst: a ring that is not flushed meanwhile runs over."""

RATE: Final = 100_000
"""Events per second and rank on average: 8 to 12 bytes each on disk, some 3.5 GB in 30 minutes."""

BYTES_PER_EVENT: Final = 20
"""On disk at most, for the question whether there is room."""

FLUSH_S: Final = 1.0
"""As it is by default."""

SAMPLE_S: Final = 0.5
STEP_S: Final = 0.02
WARM_UP_S: Final = 180.0
"""What is held by design is full by then: spans of calls are kept for a minute."""

MOST_KB_PER_MINUTE: Final = 256.0
"""The slope of resident memory that still counts as flat: 15 MB in an hour."""

_FRESH: Final = "bursts-fresh"

ENOUGH_S: Final = 600.0
"""Memory goes up and down by some MB with the bursts. In a shorter time that alone can make a
slope of megabytes per minute, so that there is no verdict."""

EVENTS_PER_STEP: Final = 8
"""Of the training thread: 2 spans, forward, backward, all_reduce and its wait, optimizer, step."""


@dataclass(slots=True, kw_only=True)
class RankReport:
    """What one rank saw of itself, and what its files hold."""

    rank: int
    offered: int
    in_file: int = 0
    dropped: int = 0
    steps: int = 0
    file_bytes: int = 0
    opens: bool = False
    ended: str | None = None
    slope_kb_per_minute: float | None = None
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    """Seconds since the start, resident kB, open files, threads."""

    @property
    def files(self) -> tuple[int, int]:
        """The fewest open files in the first and in the last quarter: a leak lifts them."""
        return self._fewest(2)

    @property
    def threads(self) -> tuple[int, int]:
        """Likewise."""
        return self._fewest(3)

    def _fewest(self, column: int) -> tuple[int, int]:
        values = [sample[column] for sample in self.samples]
        quarter = -(-len(values) // 4)
        return min(values[:quarter]), min(values[-quarter:])

    @property
    def tells_of_memory(self) -> bool:
        """Whether the soak was long enough for a verdict on the slope."""
        return self.samples[-1][0] - WARM_UP_S >= ENOUGH_S

    def problems(self) -> list[str]:
        """What is not as it must be; memory only if the soak was long enough to tell."""
        found = []
        if self.offered != self.in_file + self.dropped:
            found.append(f"{self.offered} offered, {self.in_file} in the file, {self.dropped} lost")
        if not self.opens or self.ended != "closed":
            found.append(f"the file opens: {self.opens}, the recording ended: {self.ended}")
        for what, (first, last) in {"open files": self.files, "threads": self.threads}.items():
            if last > first:
                found.append(f"{what} grew from {first} to {last}")
        slope = self.slope_kb_per_minute
        if self.tells_of_memory and (slope is None or slope > MOST_KB_PER_MINUTE):
            found.append(f"memory grows by {slope} kB/min, at most {MOST_KB_PER_MINUTE:.0f}")
        return found


def soak(
    run: Path, *, seconds: float, ranks: int = 2, rate: int = RATE, flush_s: float = FLUSH_S
) -> list[RankReport]:
    """Record into `run` for so long; one report per rank."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    pipes, processes = [], []
    for rank in range(ranks):
        ours, theirs = context.Pipe(duplex=False)
        arguments = (rank, ranks, port, run, seconds, rate, flush_s, theirs)
        process = context.Process(target=_rank, args=arguments)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        reports = [pipe.recv() for pipe in pipes]
    finally:
        for process in processes:
            process.join(60)
            process.kill()
    for report, process in zip(reports, processes, strict=True):
        if process.exitcode != 0:
            raise RuntimeError(f"rank {report.rank} ended with exit code {process.exitcode}")
        _look_at_files(run, report)
    return reports


def _rank(
    rank: int,
    ranks: int,
    port: int,
    run: Path,
    seconds: float,
    rate: int,
    flush_s: float,
    pipe: Any,
) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    report = RankReport(rank=rank, offered=0)
    with Tracer(run, flush_interval_s=flush_s) as t:
        stop = threading.Event()
        bursts = _Bursts(t, rate, stop)
        bursts.start()
        report.steps = _train(t, seconds, report)
        stop.set()
        bursts.join()
        report.offered = bursts.offered + EVENTS_PER_STEP * report.steps
    report.slope_kb_per_minute = slope(report.samples)
    pipe.send(report)
    dist.barrier()
    dist.destroy_process_group()


def _train(t: Tracer, seconds: float, report: RankReport) -> int:
    """Train until every rank's time is over; the number of steps."""
    model = nn.Linear(32, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    began = sampled = time.monotonic()
    enough = torch.zeros(1)
    steps = 0
    while not enough.item():
        with t.span("data"):
            batch = torch.ones(8, 32)
        model(batch).square().mean().backward()
        now = time.monotonic()
        enough = torch.tensor([float(now - began >= seconds)])
        dist.all_reduce(enough)
        optimizer.step()
        optimizer.zero_grad()
        t.counter("loss", steps)
        if now - sampled >= SAMPLE_S or not report.samples:
            sampled = now
            report.samples.append((now - began, *_usage()))
        with t.span("pause"):
            time.sleep(STEP_S)
        t.step()
        steps += 1
    return steps


class _Bursts:
    """Threads that record as fast as they can, all at once, and then nothing for a while."""

    def __init__(self, t: Tracer, rate: int, stop: threading.Event) -> None:
        self._tracer = t
        self._period = THREADS * BURST / rate
        self._stop = stop
        self._counts = [0] * THREADS
        self._turns = [threading.Semaphore(0) for _ in range(THREADS - 1)]
        self._threads = [
            threading.Thread(target=self._whenever, args=(number,), name=f"bursts-{number}")
            for number in range(THREADS - 1)
        ]
        self._threads.append(threading.Thread(target=self._begin_bursts, name="pace"))

    @property
    def offered(self) -> int:
        """Events that were offered by all threads, as they counted them themselves."""
        return sum(self._counts)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _begin_bursts(self) -> None:
        while not self._stop.wait(self._period):
            for turn in self._turns:
                turn.release()
            arguments = (THREADS - 1,)
            fresh = threading.Thread(target=self._burst, args=arguments, name=_FRESH)
            fresh.start()
            fresh.join()
        for turn in self._turns:
            turn.release()

    def _whenever(self, number: int) -> None:
        while self._turns[number].acquire() and not self._stop.is_set():
            self._burst(number)

    def _burst(self, number: int) -> None:
        t, offered = self._tracer, 0
        for _ in range(BURST):
            with t.span("work"):
                pass
            offered += 1
        self._counts[number] += offered


def _usage() -> tuple[int, int, int]:
    """Resident kB, open files and threads of this process, without the one that a burst adds: on
    a machine that cannot keep up, some burst is always at work.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    files = len(os.listdir("/proc/self/fd"))
    fresh = sum(thread.name == _FRESH for thread in threading.enumerate())
    threads = len(os.listdir("/proc/self/task")) - fresh
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024, files, threads


def slope(samples: list[tuple[float, int, int, int]]) -> float | None:
    """kB per minute by least squares over what follows the warm-up, or over the second half of a
    short soak; None for fewer than ten samples.
    """
    begin = min(WARM_UP_S, samples[-1][0] / 2)
    after = [sample for sample in samples if sample[0] >= begin]
    if len(after) < 10:
        return None
    minutes = np.array([sample[0] for sample in after]) / 60
    return float(np.polyfit(minutes, [sample[1] for sample in after], 1)[0])


def _look_at_files(run: Path, report: RankReport) -> None:
    """Batch by batch: the whole would not fit into memory."""
    path = run / events_file(report.rank)
    with pa.memory_map(str(path)) as source:
        for batch in pa.ipc.open_stream(source):
            batch.validate(full=True)
            names = batch.column("name").cast(pa.string())
            # The writer adds those by itself: nobody has offered them.
            collections = pc.sum(pc.equal(names, GARBAGE_COLLECTION)).as_py() or 0
            report.in_file += batch.num_rows - collections
    with pa.memory_map(str(run / counters_file(report.rank))) as source:
        report.opens = sum(batch.num_rows for batch in pa.ipc.open_stream(source)) > 0
    facts = read_rank_facts(run, report.rank)
    report.dropped, report.ended = facts.dropped, facts.ended
    report.file_bytes = path.stat().st_size


def _show(reports: list[RankReport]) -> None:
    for report in reports:
        first, last = report.samples[0], report.samples[-1]
        share = 100 * report.dropped / max(1, report.offered)
        per_event = report.file_bytes / max(1, report.in_file)
        print(
            f"rank {report.rank}: {last[0] / 60:.1f} min, {report.steps:,} steps, "
            f"{report.offered:,} events offered = {report.in_file:,} in the file "
            f"+ {report.dropped:,} dropped ({share:.1f} %)\n"
            f"  {report.file_bytes / 1e6:,.1f} MB, {per_event:.2f} bytes per event, "
            f"opens: {report.opens}\n"
            f"  resident {first[1]:,} kB at first, {last[1]:,} kB at last, "
            f"slope {report.slope_kb_per_minute} kB/min"
            f"{'' if report.tells_of_memory else ' (too short a time to tell)'}\n"
            f"  open files {report.files[0]} → {report.files[1]}, "
            f"threads {report.threads[0]} → {report.threads[1]}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rate", type=int, default=RATE, help="events per second and rank")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the reports there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        seconds = 60 * options.minutes
        needed = round(seconds * options.rate * options.ranks * BYTES_PER_EVENT)
        free = shutil.disk_usage(directory).free
        if free < needed:
            print(
                f"{directory}: {free >> 20:,} MB free, up to {needed >> 20:,} MB needed; "
                "name another place in TMPDIR, or lower --rate",
                file=sys.stderr,
            )
            sys.exit(2)
        reports = soak(
            Path(directory) / "run", seconds=seconds, ranks=options.ranks, rate=options.rate
        )
    _show(reports)
    if options.json:
        options.json.write_text(json.dumps([asdict(report) for report in reports], indent=1) + "\n")
    problems = [f"rank {r.rank}: {line}" for r in reports for line in r.problems()]
    for problem in problems:
        print(f"BROKEN {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
