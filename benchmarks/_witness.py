"""What the machine takes for work that is not ours, in the two places where recording works.

A virtual machine has phases, in which a host that others share costs several times as much for code
that has not run for a while: the same flush took 4 and 42 ms there within eleven minutes. Beside
these two figures one can tell such a phase from something of ours.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks._figures import show

_EVERY_S: Final = 0.25
_SAMPLES: Final = 16
_AT_ONCE: Final = 20
_DOCUMENT: Final[dict[str, Any]] = {
    str(n): {"start": n, "names": ["all_reduce", "send"], "of": [n, n + 0.5]} for n in range(40)
}


def thread_that_wakes(step: Callable[[], object]) -> None:
    """`overhead.witness_ms`: processor time of a fixed piece of work on a thread that sleeps for a
    quarter of a second before each, while this thread does `step` over and over; and
    `overhead.witness_times`: that over the same work twenty times in a row, with nothing beside it.
    """
    woken: list[int] = []
    at_once = [_taken() for _ in range(_AT_ONCE)]

    def wake() -> None:
        for _ in range(_SAMPLES):
            time.sleep(_EVERY_S)
            woken.append(_taken())

    thread = threading.Thread(target=wake)
    thread.start()
    while thread.is_alive():
        step()
    show("overhead.witness_ms", median(woken) / 1e6, "ms", len(woken))
    show("overhead.witness_times", median(woken) / median(at_once), "ratio", len(woken))


def call_between(call: Callable[[], object], work: Callable[[], object], times: int) -> float:
    """The median ns of a call, each after `work`."""
    taken = []
    for _ in range(times):
        work()
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return median(taken)


def _taken() -> int:
    start = time.thread_time_ns()
    _work()
    return time.thread_time_ns() - start


def _work() -> None:
    """Of the kinds of which a flush is: Python, numpy on thousands of numbers, compression."""
    text = json.dumps(_DOCUMENT, indent=1)
    numbers = np.arange(2_500)[::-1].copy()
    numbers.sort()
    zlib.compress(text.encode() + numbers.tobytes(), 6)
