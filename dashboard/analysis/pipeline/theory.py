"""What the literature promises: the bubble of each schedule in closed form.

All forms assume equal stages, equal microbatches and free communication. `p` is the number of
pipeline ranks, `m` of microbatches, `v` of virtual stages per rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dashboard.analysis.results import Result
from tracer.run_files import SchedulePlan

GPIPE: Final = "Huang et al., GPipe, arXiv 1811.06965, section 2.3"
MEGATRON: Final = "Narayanan et al., Megatron-LM, arXiv 2104.04473, section 2.2"
BREADTH_FIRST: Final = "Lamy-Poirier, Breadth-First Pipeline Parallelism, arXiv 2211.05953"
ZERO_BUBBLE: Final = "Qi et al., Zero Bubble Pipeline Parallelism, arXiv 2401.10241"
DUAL_PIPE: Final = "DeepSeek-AI, DualPipe and DualPipeV, github.com/deepseek-ai/DualPipe"


@dataclass(kw_only=True, frozen=True)
class Theory(Result):
    """The bubble that a schedule should have; None where no closed form holds without durations
    (equal_stages.py has them).

    fraction_of_window: bubble / pipeline window. over_ideal: bubble / busy time.
    """

    schedule: str
    p: int
    m: int
    v: int
    fraction_of_window: float | None
    over_ideal: float | None
    source: str
    note: str = ""


def _one_stage(p: int, m: int, v: int) -> float:
    return (p - 1) / m


def _interleaved(p: int, m: int, v: int) -> float:
    return (p - 1) / (v * m)


_OVER_IDEAL: Final[dict[str, tuple[Callable[[int, int, int], float], str]]] = {
    "ScheduleGPipe": (_one_stage, GPIPE),
    "Schedule1F1B": (_one_stage, MEGATRON),
    "ScheduleInterleaved1F1B": (_interleaved, MEGATRON),
    "ScheduleLoopedBFS": (_interleaved, BREADTH_FIRST),
}
_DEPENDS_ON_DURATIONS: Final[dict[str, tuple[str, str]]] = {
    "ScheduleInterleavedZeroBubble": (
        ZERO_BUBBLE,
        "depends on the durations of F, B and W: compare with the plan bound",
    ),
    "ScheduleZBVZeroBubble": (
        ZERO_BUBBLE,
        "none in each rank's own window if F, B and W take equally long; compare with the plan "
        "bound",
    ),
    "ScheduleDualPipeV": (
        DUAL_PIPE,
        "depends on how well F and B overlap: compare with the plan bound",
    ),
}


def theory_of(plan: SchedulePlan) -> Theory:
    """The closed form for a run's schedule."""
    p, m, v = plan.pipeline_size, plan.microbatches, plan.virtual_stages
    over_ideal: float | None = None
    if plan.name in _OVER_IDEAL:
        form, source = _OVER_IDEAL[plan.name]
        over_ideal, note = form(p, m, v), ""
    else:
        source, note = _DEPENDS_ON_DURATIONS.get(plan.name, ("", "no closed form is known to us"))
    return Theory(
        schedule=plan.name,
        p=p,
        m=m,
        v=v,
        fraction_of_window=None if over_ideal is None else over_ideal / (1 + over_ideal),
        over_ideal=over_ideal,
        source=source,
        note=note,
    )
