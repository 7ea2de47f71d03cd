"""Model FLOPs utilization: how much of the hardware's peak the model's own arithmetic reaches.

    MFU = model FLOPs per step / (step time x ranks x peak FLOP/s of a rank)

(Chowdhery et al., PaLM, arXiv 2204.02311, appendix B.) Model FLOPs are those of forward and
backward as the definition of the model has them; recomputation does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.replay.replay import times_of
from dashboard.analysis.results import Result
from dashboard.analysis.steps import in_order, step_windows
from dashboard.runs.columns import in_parts
from dashboard.runs.words import have

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


@dataclass(kw_only=True, slots=True, frozen=True)
class FlopsPart:
    """Of some ranks: their step windows, and the FLOPs that their events carry, by step."""

    windows: pa.Table
    recorded: Mapping[int, int]


def flops_utilization(run: Recording, steps: Collection[int] | None = None) -> FlopsUtilization:
    """From `config={"flops_per_step": …, "peak_flops": …}` of the tracer, else from events that
    carry FLOPs.
    """
    return flops_of(run, [flops_part(run, [rank], steps) for rank in run.ranks])


def flops_part(
    run: Recording, ranks: Collection[int], steps: Collection[int] | None = None
) -> FlopsPart:
    """What `flops_of` needs of those ranks."""
    if _number(run, PER_STEP) is not None:
        return FlopsPart(windows=step_windows(run, steps, ranks=ranks), recorded={})
    found = [_recorded(run, rank, steps) for rank in ranks]
    summed: Counter[int] = Counter()
    for part in found:
        summed.update(part.recorded)
    return FlopsPart(windows=pa.concat_tables([p.windows for p in found]), recorded=summed)


def _recorded(run: Recording, rank: int, steps: Collection[int] | None) -> FlopsPart:
    """Of one rank, of which a part is in memory at a time."""
    wanted = frozenset(run.steps).intersection(run.steps if steps is None else steps)
    chosen = pa.array(sorted(wanted), pa.int32())
    windows: list[pa.Table] = []
    summed: Counter[int] = Counter()

    def note(events: pa.Table) -> None:
        is_window = have(events["kind"], ("step",))
        mine = pc.and_(is_window, pc.is_in(events["step"], chosen))
        windows.append(events.filter(mine).select(["rank", "step", "start", "duration"]))
        known = events.filter(pc.is_valid(events["flops"]))
        by_step = known.group_by("step", use_threads=False).aggregate([("flops", "sum")])
        pairs = zip(by_step["step"].to_pylist(), by_step["flops_sum"].to_pylist(), strict=True)
        summed.update({step: flops for step, flops in pairs if step in wanted})

    in_parts(run.tables, rank, ("start", "duration", "kind", "step", "flops"), note)
    return FlopsPart(windows=in_order(pa.concat_tables(windows)), recorded=summed)


def flops_of(run: Recording, parts: Sequence[FlopsPart]) -> FlopsUtilization:
    """From the parts of all ranks, in their order."""
    flops, source = _number(run, PER_STEP), f"config of the run: {PER_STEP}"
    is_told = flops is not None or any(part.recorded for part in parts)
    times = times_of([part.windows for part in parts] if is_told else [])
    if flops is None and times.steps:
        total = sum(part.recorded.get(step, 0) for part in parts for step in times.steps)
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


def _number(run: Recording, key: str) -> float | None:
    value: Any = run.meta.config.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < float("inf") else None
