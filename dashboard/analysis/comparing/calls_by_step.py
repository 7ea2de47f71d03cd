"""What a rank asked for in each step: calls and bytes by operation."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from dashboard.analysis.rows_by_key import combinations_numbered
from dashboard.analysis.sums_by_step import SumsByStep, added, sums_by_step
from dashboard.runs.columns import numbers
from dashboard.runs.words import where

if TYPE_CHECKING:
    from dashboard.runs import Recording

CALLS: Final = "calls"
SIZED: Final = "calls of known size"
BYTES: Final = "bytes"

_KINDS: Final = ("collective", "send")
"""Of a message its send: the receive is the same bytes once more."""
_COLUMNS: Final = ("kind", "name", "lane", "group", "bytes", "step")


def calls_by_step(run: Recording, rank: int, steps: Collection[int]) -> SumsByStep:
    """By operation with its mesh dimension, and measure: `CALLS`, `SIZED` and `BYTES`. Calls of the
    host: what a device did of them is the same operation once more.

    all_reduce over dp:0-1 of 4 B and one of 2 B in step 3 → dp all_reduce, calls 2, bytes 6
    """
    events = run.events(ranks=[rank], steps=steps, kinds=_KINDS, columns=_COLUMNS)
    events = events.filter(where(events["lane"], lambda lanes: pc.starts_with(lanes, "host:")))
    asked, of = combinations_numbered(events, ("kind", "name", "group"))
    names = [_operation(*words) for words in asked]
    step = numbers(events["step"]).astype(np.int64)
    is_sized = numbers(events["bytes"].is_valid()).astype(np.int64)
    measures = {CALLS: np.ones_like(of), SIZED: is_sized, BYTES: numbers(events["bytes"])}
    return added(
        [
            sums_by_step(steps, [(name, measure) for name in names], of, step, values)
            for measure, values in measures.items()
        ]
    )


def _operation(kind: str, name: str | None, group: str | None) -> str:
    """`dp all_reduce`"""
    dimension = (group or "").partition(":")[0]
    return f"{dimension} {kind if kind == 'send' else name}".strip()
