"""What the exercises have in common: the tracer or none, data, and the bits that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from tests.reliability.stand_ins import MORE_COLLECTORS, NoTracer
from tracer import Tracer, environment, parts

WIDTH, ROWS, MICROBATCHES = 4, 2, 3
FLUSH_S = 0.02
Outcome = tuple[bytes, list[str]]
"""Bits of the parameters, and what came back from calls."""


@contextmanager
def tracing(directory: Path | None, *, hosts: int = 1, **options: Any) -> Iterator[Any]:
    """A tracer with every installed collector and the ones of devices, or none of all.

    With two hosts, rank 1 takes itself for one on another machine.
    """
    if directory is None:
        yield NoTracer()
        return
    found = parts.entry_points
    ours = [SimpleNamespace(load=lambda made=made: made) for made in MORE_COLLECTORS]
    parts.entry_points = lambda group: [*found(group=group), *ours]  # type: ignore[assignment]
    boot_id, host = environment.boot_id, dist.get_rank() % hosts
    environment.boot_id = lambda: boot_id() + ".another" * host
    try:
        with Tracer(directory, flush_interval_s=FLUSH_S, **options) as tracer:
            yield tracer
    finally:
        parts.entry_points = found  # type: ignore[assignment]
        environment.boot_id = boot_id


def batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2 * ROWS * MICROBATCHES, WIDTH, generator=generator)


def bits(parameters: Any) -> bytes:
    return b"".join(parameter.detach().numpy().tobytes() for parameter in parameters)
