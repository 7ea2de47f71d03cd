"""Pipeline bubbles: idle time inside the pipeline window, split by when and because of whom.

The window of a step lasts from the first forward's start to the last backward's end over the
ranks of one pipeline. Communication inside an action is that action's work; a bubble is time
between actions, before the first (warm-up) or after the last (cool-down).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import EMPTY, Intervals, complement, intervals, measure
from dashboard.analysis.operations import operations
from dashboard.analysis.pipeline.actions import (
    Action,
    action_table,
    by_step,
    covers_all_stages,
    pipelines,
)
from dashboard.analysis.pipeline.equal_stages import mean_lengths, with_lengths
from dashboard.analysis.pipeline.plan_bound import plan_bound
from dashboard.analysis.pipeline.theory import Theory, theory_of
from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from dashboard.runs import Recording

Receives: TypeAlias = tuple[Intervals, npt.NDArray[np.int32]]

WARM_UP: Final = "warm_up"
STALL: Final = "stall"
COOL_DOWN: Final = "cool_down"

_RANKS: Final = pa.schema(
    [
        ("step", pa.int32()),
        ("group", pa.string()),
        ("rank", pa.int32()),
        ("stages", pa.string()),
        ("window_ns", pa.int64()),
        ("busy_ns", pa.int64()),
        ("bubble_ns", pa.int64()),
        ("warm_up_ns", pa.int64()),
        ("stall_ns", pa.int64()),
        ("cool_down_ns", pa.int64()),
    ]
)
_STALLS: Final = pa.schema(
    [
        ("step", pa.int32()),
        ("rank", pa.int32()),
        ("culprit_rank", pa.int32()),
        ("stall_ns", pa.int64()),
    ]
)
_STEPS: Final = pa.schema(
    [
        ("step", pa.int32()),
        ("group", pa.string()),
        ("window_start", pa.int64()),
        ("window_ns", pa.int64()),
        ("bubble_fraction_of_window", pa.float64()),
        ("bubble_over_ideal", pa.float64()),
        ("plan_bound_fraction_of_window", pa.float64()),
        ("plan_bound_over_ideal", pa.float64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class Bubbles(Result):
    """Bubbles per rank, their culprits, and the ratios per step and pipeline.

    ranks: step, group, rank, stages, and in ns window, busy, bubble = warm_up + stall + cool_down.
    stalls: step, rank, culprit_rank, stall_ns: whom the rank waited for between actions; itself
        where it waited for nobody (its own host work, or sends).
    steps: step, group, window_start, window_ns, and of the whole pipeline
        bubble_fraction_of_window = Σ bubble / Σ window, bubble_over_ideal = Σ bubble / Σ busy,
        and both as the plan bound gives them (null where the step cannot be replayed).
    theory: the closed form for the schedule, or what its plan comes to with equal stages; None
        without a schedule.
    """

    ranks: pa.Table
    stalls: pa.Table
    steps: pa.Table
    theory: Theory | None


def measure_bubbles(run: Recording, steps: Collection[int] | None = None) -> Bubbles:
    """Measure every complete step (or those of `steps`) of every pipeline of the run."""
    wanted = [step for step in run.steps if steps is None or step in steps]
    return joined_bubbles(
        run,
        [
            pipeline_bubbles(
                run,
                group,
                action_table(run, wanted, ranks),
                {rank: receives(run, rank, wanted) for rank in ranks},
            )
            for group, ranks in pipelines(run).items()
        ],
    )


def pipeline_bubbles(
    run: Recording,
    group: str,
    actions: pa.Table,
    received: Mapping[int, Receives],
) -> Bubbles:
    """Those of one pipeline in some steps. actions: the `action_table` of all its ranks.
    received: by rank, what `receives` gives.
    """
    rows: list[dict[str, Any]] = []
    stalls: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    for step, mine in by_step(actions):
        measured = [_measure_rank(run, rank, mine, received, stalls, step) for rank in received]
        key = {"step": step, "group": group}
        rows += [key | row for row in measured]
        bound = plan_bound(mine) if covers_all_stages(run, mine) else None
        ratios.append(key | _ratios(mine, measured, bound))
    return Bubbles(
        ranks=pa.Table.from_pylist(rows, schema=_RANKS),
        stalls=pa.Table.from_pylist(stalls, schema=_STALLS),
        steps=pa.Table.from_pylist(ratios, schema=_STEPS),
        theory=None,
    )


def joined_bubbles(run: Recording, parts: Sequence[Bubbles]) -> Bubbles:
    """Those of several pipelines, in their order, and steps as one, in order of step."""
    schedule = run.meta.schedule
    tables = {
        name: pa.concat_tables([schema.empty_table(), *(getattr(part, name) for part in parts)])
        for name, schema in (("ranks", _RANKS), ("stalls", _STALLS), ("steps", _STEPS))
    }
    theory = theory_of(schedule) if schedule else None
    if schedule and theory and theory.over_ideal is None:
        measured = pc.unique(tables["steps"]["step"]).to_pylist()
        theory = with_lengths(theory, schedule, mean_lengths(run, measured))
    return Bubbles(
        **{name: table.sort_by("step").combine_chunks() for name, table in tables.items()},
        theory=theory,
    )


def _measure_rank(
    run: Recording,
    rank: int,
    actions: Sequence[Action],
    received: Mapping[int, Receives],
    stalls: list[dict[str, Any]],
    step: int,
) -> dict[str, Any]:
    begin, end = _window(actions)
    gaps = rank_gaps(actions, rank)
    busy = end - begin - sum(measure(part) for part in gaps.values())
    for culprit, stall in _culprits(rank, gaps[STALL], received[rank]).items():
        row = {"step": step, "rank": rank, "culprit_rank": culprit, "stall_ns": stall}
        stalls.append(row)
    return {
        "rank": rank,
        "stages": ",".join(str(stage) for stage in run.facts[rank].stages),
        "window_ns": end - begin,
        "busy_ns": busy,
        "bubble_ns": end - begin - busy,
        **{f"{part}_ns": measure(spans) for part, spans in gaps.items()},
    }


def rank_gaps(actions: Sequence[Action], rank: int) -> dict[str, Intervals]:
    """When `rank` does none of the pipeline's actions, within the window of them all: before its
    first one (`warm_up`; all of the window where it has none), between two (`stall`), and after its
    last one (`cool_down`).
    """
    begin, end = _window(actions)
    mine = [action for action in actions if action.rank == rank]
    busy = intervals([a.start for a in mine], [a.duration for a in mine])
    first, last = (int(busy[0, 0]), int(busy[-1, 1])) if len(busy) else (end, end)
    return {
        WARM_UP: complement(EMPTY, begin, first),
        STALL: complement(busy, first, last),
        COOL_DOWN: complement(EMPTY, last, end),
    }


def _window(actions: Sequence[Action]) -> tuple[int, int]:
    """First forward's start to last backward's end, which are the first start and last end."""
    begin = min(action.start for action in actions)
    return begin, max(action.end for action in actions)


def _ratios(
    actions: Sequence[Action], measured: list[dict[str, Any]], bound: int | None
) -> dict[str, Any]:
    begin, end = _window(actions)
    busy = sum(row["busy_ns"] for row in measured)
    bubble = sum(row["bubble_ns"] for row in measured)
    window = len(measured) * (end - begin)
    least = None if bound is None else len(measured) * bound - busy
    return {
        "window_start": begin,
        "window_ns": end - begin,
        "bubble_fraction_of_window": _ratio(bubble, window),
        "bubble_over_ideal": _ratio(bubble, busy),
        "plan_bound_fraction_of_window": (
            None if least is None or bound is None else _ratio(least, len(measured) * bound)
        ),
        "plan_bound_over_ideal": None if least is None else _ratio(least, busy),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def receives(run: Recording, rank: int, steps: Collection[int] | None = None) -> Receives:
    """The spans in which the rank waited for a message, in order of end, and from whom."""
    table = operations(run, steps, ranks=[rank])
    table = table.filter(pc.and_(pc.equal(table["op"], "recv"), pc.is_valid(table["peer"])))
    table = table.sort_by("end")
    start = pc.coalesce(table["wait_start"], table["start"]).to_numpy()
    spans = np.stack([start, table["end"].to_numpy()], axis=1).astype(np.int64)
    return spans, table["peer"].to_numpy()


def _culprits(rank: int, gaps: Intervals, received: Receives) -> Counter[int]:
    """Each gap's length goes to the sender of the receive that ended last in it, else to itself."""
    spans, peers = received
    found: Counter[int] = Counter()
    for begin, end in gaps.tolist():
        last = int(np.searchsorted(spans[:, 1], end, side="right")) - 1
        waited = last >= 0 and spans[last, 1] > begin
        found[int(peers[last]) if waited else rank] += end - begin
    return found
