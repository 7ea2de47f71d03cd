"""Model FLOPs utilization: how much of the hardware's peak the model's own arithmetic reaches.

    MFU = model FLOPs per step / (step time x ranks x peak FLOP/s of a rank)

(Chowdhery et al., PaLM, arXiv 2204.02311, appendix B.) Model FLOPs are those of forward and
backward as the definition of the model has them; recomputation does not count.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc

from dashboard.analysis.replay.replay import measured_step_times
from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from dashboard.runs import Recording

PER_STEP: Final = "flops_per_step"
PEAK: Final = "peak_flops"
"""Keys of the tracer's `config`: of all ranks together, and of one rank, FLOP/s."""

_UNITS: Final = ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"))


@dataclass(kw_only=True, frozen=True)
class FlopsUtilization(Result):
    """None is what is not known; nothing is guessed.

    flops_per_step: model FLOPs of all ranks. per_rank: FLOP/s that a rank reaches. peak: FLOP/s
    that it could. mfu: per_rank / peak. source: where flops_per_step is from.
    """

    flops_per_step: float | None
    per_rank: float | None
    peak: float | None
    mfu: float | None
    source: str

    @property
    def reached(self) -> str:
        """2.5e12 → `2.5 TFLOP/s per rank`; `–` where it is not known."""
        if self.per_rank is None:
            return "–"
        fitting = (found for found in _UNITS if found[0] <= self.per_rank)
        size, unit = next(fitting, _UNITS[-1])
        return f"{self.per_rank / size:.3g} {unit} per rank"

    def __str__(self) -> str:
        if self.per_rank is None:
            return f'unknown; Tracer(…, config={{"{PER_STEP}": …, "{PEAK}": …}}) tells the FLOPs'
        if self.mfu is None:
            return f'unknown, since the config names no "{PEAK}" of a rank; {self.reached}'
        return f"{100 * self.mfu:.1f} %, {self.reached}"


def flops_utilization(run: Recording, steps: Collection[int] | None = None) -> FlopsUtilization:
    """From `config={"flops_per_step": …, "peak_flops": …}` of the tracer, else from events that
    carry FLOPs.
    """
    times = measured_step_times(run, steps)
    flops, source = _number(run, PER_STEP), f"config of the run: {PER_STEP}"
    if flops is None and times.steps:
        total = sum(_recorded(run, rank, times.steps) for rank in run.ranks)
        flops, source = (total / len(times.steps), "recorded events") if total else (None, "")
    per_rank = None
    if flops is not None and times.steps and times.mean_ns > 0:
        per_rank = flops / (times.mean_ns / 1e9) / run.meta.world_size
    peak = _number(run, PEAK)
    return FlopsUtilization(
        flops_per_step=flops,
        per_rank=per_rank,
        peak=peak,
        mfu=per_rank / peak if per_rank is not None and peak else None,
        source=source if flops is not None else "",
    )


def _recorded(run: Recording, rank: int, steps: Collection[int]) -> int:
    events = run.events(ranks=[rank], steps=steps, columns=("flops",))
    return pc.sum(events["flops"]).as_py() or 0


def _number(run: Recording, key: str) -> float | None:
    value: Any = run.meta.config.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < float("inf") else None
