"""Clocks of simulated hosts: each is off and drifts, and compares itself with another's."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tracer.clocks.file import ClockFile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BEGIN_NS: Final = 3_600e9
"""What the root's clock says at the beginning: its machine started an hour ago."""
_EVERY_NS: Final = 30e9
_FAN_OUT: Final = 16
"""How many hosts compare themselves with the same one, as in recorded runs."""


@dataclass(kw_only=True, slots=True, frozen=True)
class HostClock:
    """A clock that says `raw(t)` at time t (ns from the beginning of the run)."""

    offset_ns: float
    drift: float

    def raw(self, time: Floats) -> Ints:
        """What it says at these times."""
        return np.rint(_BEGIN_NS + self.offset_ns + time * (1 + self.drift)).astype(np.int64)


def host_clocks(
    hosts: int, *, offset_s: float, drift_ppm: float, random: np.random.Generator
) -> tuple[HostClock, ...]:
    """One per host; host 0 has the true one."""
    offsets = random.uniform(-offset_s, offset_s, hosts) * 1e9
    drifts = random.uniform(-drift_ppm, drift_ppm, hosts) * 1e-6
    offsets[0] = drifts[0] = 0.0
    pairs = zip(offsets.tolist(), drifts.tolist(), strict=True)
    return tuple(HostClock(offset_ns=offset, drift=drift) for offset, drift in pairs)


def write_comparisons(
    directory: Path,
    clocks: tuple[HostClock, ...],
    speakers: list[int],
    *,
    end_ns: float,
    error_ns: float,
    run_id: str,
    random: np.random.Generator,
) -> None:
    """The file of the rank that speaks for each host but the first: comparisons at the beginning,
    at the end and every 30 s, each off by at most `error_ns`, which is the bound that it states.
    """
    times = np.unique(np.append(np.arange(0, end_ns, _EVERY_NS), end_ns))
    for host in range(1, len(clocks)):
        parent = (host - 1) // _FAN_OUT
        mine = clocks[host].raw(times)
        wrong = np.rint(random.uniform(-error_ns, error_ns, len(times)))
        offset = clocks[parent].raw(times) - mine + wrong.astype(np.int64)
        file = ClockFile(directory, run_id=run_id, rank=speakers[host])
        source = f"rank:{speakers[parent]}"
        bound = int(error_ns) + 2  # both readings are whole ns
        file.write(
            deque(
                (t, source, o, bound) for t, o in zip(mine.tolist(), offset.tolist(), strict=True)
            )
        )
        file.close()
