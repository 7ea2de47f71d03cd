"""What all benchmarks share: timing a call repeatedly, and printing one figure per line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
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


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Between which of the values the median of what they are drawn from lies, to 95 %.

    The k-th smallest and the k-th largest, where k is the largest that leaves the binomial
    distribution (n, 1/2) at most 2.5 % below it; no assumption but that the values are independent
    (Conover, Practical Nonparametric Statistics, 3.2). Of fewer than six: the range of all.
    """
    ordered = sorted(values)
    count, below, k = len(ordered), 0.0, 0
    while (below := below + math.comb(count, k) / 2**count) <= 0.025:
        k += 1
    return ordered[max(k, 1) - 1], ordered[-max(k, 1)]


def timed_ns(call: Callable[[], object], calls: int = 1) -> float:
    """The ns that one of `calls` calls takes."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - start) / calls
