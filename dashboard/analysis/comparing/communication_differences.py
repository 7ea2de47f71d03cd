"""What two runs communicated differently: calls and bytes, which no chance is in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dashboard.analysis.comparing.calls_by_step import BYTES, CALLS, SIZED
from dashboard.analysis.comparing.run_differences import Difference

if TYPE_CHECKING:
    from dashboard.analysis.sums_by_step import SumsByStep

_NONE: Final = "none"


def communication_differences(a: dict[str, str], b: dict[str, str]) -> tuple[Difference, ...]:
    """Operations by mesh dimension of which a rank did more or other ones per step, in the mean
    over ranks and steps; in the order of their names. a, b: what `communicated` says.

    A rank that all-reduced 2 × 4 MB and now another 16 → 2 calls, 8 MB → 3 calls, 24 MB
    """
    return tuple(
        Difference(what=f"{key}, per rank and step", a=a.get(key, _NONE), b=b.get(key, _NONE))
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    )


def communicated(calls: SumsByStep, steps: Sequence[int], ranks: int) -> dict[str, str]:
    """`dp all_reduce` → `2 calls, 8 MB`, per rank and step; calls: see `calls_by_step`.

    Summed up in Python's numbers: the bytes of all ranks and steps may be more than 64 bits hold.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (operation, measure), value in zip(
        calls.keys, calls.within(steps).sum(axis=1, dtype=object).tolist(), strict=True
    ):
        found[operation][measure] = value
    each = ranks * len(steps)
    return {
        operation: f"{of[CALLS] / each:.4g} calls, "
        + (f"{of[BYTES] / each / 1e6:.4g} MB" if of[SIZED] == of[CALLS] else "of unknown size")
        for operation, of in found.items()
        if of[CALLS]
    }
