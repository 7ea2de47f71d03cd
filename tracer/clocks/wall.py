"""The wall clock beside the recorder's, as close together as the processor lets us read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_TRIES: Final = 8
_CLOSE_NS: Final = 1_000
"""Two readings so close together had nothing between them but the third."""


def both_clocks(clock: Callable[[], int]) -> tuple[int, int]:
    """The recorder's clock, and the wall clock just before it, ns: the closest of some tries.

    A thread may lose its processor between two readings, and then they are milliseconds apart.
    """
    tries = []
    for _ in range(_TRIES):
        before, wall, after = clock(), time.time_ns(), clock()
        if after - before < _CLOSE_NS:
            return after, wall
        tries.append((after - before, after, wall))
    return min(tries)[1:]
