"""Peak memory of other layouts: what stays, and what each microbatch in flight adds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from dashboard.analysis.layouts.layout import Layout
from dashboard.analysis.memory.memory import ALLOCATED, Memory, measure_memory
from dashboard.analysis.pipeline.actions import pipelines
from dashboard.analysis.pipeline.plans import Plan, in_flight

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, frozen=True)
class MemoryCosts:
    """Bytes of the whole model: static (parameters, gradients, optimizer, …), and per_microbatch
    (activations of a recorded microbatch).
    """

    static: float
    per_microbatch: float

    def peak(self, layout: Layout, plan: Plan) -> float:
        """Bytes of the rank that holds most; layers and what they hold are taken to be split
        evenly, and nothing over data ranks.
        """
        parts = layout.p * layout.t
        return self.static / parts + held_share(layout, plan) * self.per_microbatch


def held_share(layout: Layout, plan: Plan) -> float:
    """The most that a rank holds, in activations of the whole model for one recorded microbatch."""
    most = max(in_flight(actions) for actions in plan.actions)
    return most / (layout.p * layout.v * layout.t * layout.cut)


def memory_costs(
    run: Recording, here: Layout, steps: Collection[int] | None = None
) -> MemoryCosts | None:
    """A line through what each rank's allocator held against its microbatches in flight, least
    squares, the sum over the ranks of a pipeline of which none is missing. None where that was not
    sampled, or tells nothing: a process's resident memory is no measure, for the interpreter is in
    it.

    1 held: 30 bytes, 3 held: 50 bytes → static 20, 10 per microbatch (of one rank)
    """
    memory = measure_memory(run, steps)
    if memory.counter != ALLOCATED:
        return None
    found = [
        [_line_of(memory, rank) for rank in ranks]
        for ranks in pipelines(run).values()
        if len(ranks) == here.p
    ]
    if not found or any(line is None for lines in found for line in lines):
        return None
    known = [[line for line in lines if line is not None] for lines in found]
    return MemoryCosts(
        static=here.t * fmean(sum(static for static, _ in lines) for lines in known),
        per_microbatch=here.t * here.v * fmean(sum(each for _, each in lines) for lines in known),
    )


def _line_of(memory: Memory, rank: int) -> tuple[float, float] | None:
    """Bytes without microbatches, and per microbatch (and stage) in flight; None of one count."""
    samples = memory.timeline.filter(pc.equal(memory.timeline["rank"], rank))
    changes = memory.in_flight.filter(pc.equal(memory.in_flight["rank"], rank))
    at = np.searchsorted(changes["ts"].to_numpy(), samples["ts"].to_numpy(), side="right")
    held = np.concatenate([[0], changes["count"].to_numpy()])[at]
    if len(np.unique(held)) < 2:
        return None
    each, static = np.polyfit(held, samples["bytes"].to_numpy(), 1)
    return float(static), max(0.0, float(each))
