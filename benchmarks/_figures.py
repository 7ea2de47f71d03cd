"""What all benchmarks share: timing a call repeatedly, and printing one figure per line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any


def show(name: str, value: float, unit: str, samples: int) -> None:
    """Print one figure as a JSON object on a line of its own."""
    print(json.dumps(figure(name, value, unit, samples)), flush=True)


def figure(name: str, value: float, unit: str, samples: int) -> dict[str, Any]:
    """One figure as it is printed."""
    return {"name": name, "value": round(value, 4), "unit": unit, "samples": samples}


def median_ns(call: Callable[[], object], *, samples: int, calls: int = 1) -> float:
    """Median over `samples` of the ns that one call takes, timed `calls` at once."""
    call()
    return median(timed_ns(call, calls) for _ in range(samples))


def timed_ns(call: Callable[[], object], calls: int = 1) -> float:
    """The ns that one of `calls` calls takes."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - start) / calls
