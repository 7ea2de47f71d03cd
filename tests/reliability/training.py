"""A small data-parallel training that keeps a log of its own, which outlives the process.

Preloaded by the fork server of kills.py, so that a rank starts in some milliseconds.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch._dynamo  # Else the first step of every rank spends a second importing it.
import torch.distributed as dist

from tracer import Kind, Recorder, Tracer
from tracer.batches import record_batch
from tracer.parts import ENTRY_POINTS
from tracer.rings import RECORD_DTYPE

KEPT: Final = 4096
"""Last steps and flushes that a log holds."""

FLUSH_S: Final = 0.2
FAILED: Final = 3
"""Exit code of a rank whose collective failed, because another rank was killed."""

_GROUP_TIMEOUT: Final = timedelta(seconds=4)

torch.set_num_threads(1)
# What a rank would import while it starts: the collectors, and pandas, which pyarrow looks for.
for entry in entry_points(group=ENTRY_POINTS):
    entry.load()
record_batch(np.empty(0, RECORD_DTYPE), Recorder())


class Log:
    """What one rank did, in a file that is mapped into memory: a kill loses nothing of it.

    `phase` is 0 before the tracer records, 1 while it does, 2 after its end. Of step `n` the
    time (monotonic ns) at which it was over stands at `n % KEPT`; likewise of flush `n` the time
    at which it began.
    """

    def __init__(self, path: Path, *, make: bool = False) -> None:
        shape = (3 + 2 * KEPT,)
        self._values = np.memmap(path, np.int64, mode="w+" if make else "r", shape=shape)

    @property
    def phase(self) -> int:
        return int(self._values[0])

    @phase.setter
    def phase(self, phase: int) -> None:
        self._values[0] = phase

    def note_step(self, now: int) -> None:
        self._note(1, now)

    def note_flush(self, now: int) -> None:
        self._note(2, now)

    @property
    def step_ends(self) -> dict[int, int]:
        """Step → when it was over, of the last `KEPT` steps."""
        return self._last(1)

    @property
    def flush_begins(self) -> dict[int, int]:
        """Flush → when it began, of the last `KEPT` flushes."""
        return self._last(2)

    def _note(self, which: int, now: int) -> None:
        number = int(self._values[which])
        self._values[3 + (which - 1) * KEPT + number % KEPT] = now
        self._values[which] = number + 1

    def _last(self, which: int) -> dict[int, int]:
        count, offset = int(self._values[which]), 3 + (which - 1) * KEPT
        return {n: int(self._values[offset + n % KEPT]) for n in range(max(0, count - KEPT), count)}


def train(rank: int, ranks: int, directory: Path, steps: int) -> None:
    """One rank: as under `python -m tracer`, the tracer records all that the process does."""
    _speak_into(directory / f"stderr-{rank}.txt")
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks))
    log = Log(directory / f"log-{rank}", make=True)
    try:
        with Tracer(directory / "run", flush_interval_s=FLUSH_S) as t:
            log.phase = 1
            t.recorder.on_flush.append(lambda: log.note_flush(time.monotonic_ns()))
            _loop(t, log, rank, ranks, directory / "store", steps)
    except (RuntimeError, dist.DistError):
        os._exit(FAILED)
    finally:
        log.phase = 2


def _loop(t: Tracer, log: Log, rank: int, ranks: int, store: Path, steps: int) -> None:
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(store), ranks),
        rank=rank,
        world_size=ranks,
        timeout=_GROUP_TIMEOUT,
    )
    model = torch.nn.Linear(32, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        with t.span("load", kind=Kind.DATA):
            batch = torch.ones(8, 32)
        model(batch).sum().backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
        optimizer.step()
        optimizer.zero_grad()
        t.step()
        log.note_step(time.monotonic_ns())
    dist.destroy_process_group()


def _speak_into(path: Path) -> None:
    """Standard error of this process goes to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
