"""Give a process a clock of its own, as on another host, but known, so that it can be checked.

Imported by a training script before the tracer is, it replaces what the tracer reads. Nothing
else is simulated: processes, sockets and delays are real.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SkewedClock:
    """Reads `time` as time + offset + drift × (time − base), all in ns."""

    base: int
    offset: int
    drift: float

    def read(self, time_ns: int) -> int:
        """What this clock shows at a true time."""
        return time_ns + self.offset + round((time_ns - self.base) * self.drift)

    def true(self, shown: int) -> float:
        """The true time at which it shows `shown`."""
        return self.base + (shown - self.base - self.offset) / (1 + self.drift)


def clock_of(rank: int, base: int) -> SkewedClock:
    """Offsets of ± some seconds, drifts of up to ± 50 ppm, all different."""
    offset = (rank * 5 % 11 - 5) * 731_000_000 + rank * 12_345
    drift = (rank * 7 % 11 - 5) * 10e-6
    return SkewedClock(base, offset, drift)


def install(rank: int, base: int) -> None:
    """From now on this process is alone on its host, and its clock is skewed."""
    real: Callable[[], int] = time.monotonic_ns
    clock = clock_of(rank, base)
    time.monotonic_ns = lambda: clock.read(real())
    from tracer import environment

    environment.boot_id = lambda: f"host-{rank}"


def base_of_environment() -> int:
    """The true time that the launcher chose for all."""
    return int(os.environ["SKEW_BASE"])
