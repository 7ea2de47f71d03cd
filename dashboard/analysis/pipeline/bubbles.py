"""Pipeline bubbles: idle time inside the pipeline window, split by when and because of whom.

The window of a step lasts from the first forward's start to the last backward's end over the
ranks of one pipeline. Communication inside an action is that action's work; a bubble is time
between actions, before the first (warm-up) or after the last (cool-down).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import Intervals
from dashboard.analysis.operations import operations
from dashboard.analysis.pipeline.actions import action_table, pipelines
from dashboard.analysis.pipeline.equal_stages import mean_lengths, with_lengths
from dashboard.analysis.pipeline.gaps import Gaps, gaps_of
from dashboard.analysis.pipeline.plan_bound import plan_bounds
from dashboard.analysis.pipeline.theory import Theory, theory_of
from dashboard.analysis.results import Result
from dashboard.analysis.rows_by_key import Ints, numbered, rows_by_key, sums
from dashboard.analysis.steps import wanted_steps

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
    wanted = wanted_steps(run, steps)
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
    if not actions.num_rows:
        return Bubbles(
            ranks=_RANKS.empty_table(),
            stalls=_STALLS.empty_table(),
            steps=_STEPS.empty_table(),
            theory=None,
        )
    ranks = tuple(received)
    gaps = gaps_of(actions, ranks)
    window = (gaps.end - gaps.begin)[:, None]
    parts = {
        WARM_UP: gaps.first - gaps.begin[:, None],
        STALL: gaps.stalls,
        COOL_DOWN: gaps.end[:, None] - gaps.last,
    }
    bubble = parts[WARM_UP] + parts[STALL] + parts[COOL_DOWN]
    cells = bubble.size
    stages = [",".join(str(stage) for stage in run.facts[rank].stages) for rank in ranks]
    by_rank = {
        "step": np.repeat(gaps.steps, len(ranks)),
        "group": pa.repeat(group, cells),
        "rank": np.tile(np.array(ranks, np.int32), len(gaps.steps)),
        "stages": pa.array(stages).take(pa.array(np.tile(np.arange(len(ranks)), len(gaps.steps)))),
        "window_ns": np.repeat(window, len(ranks)),
        "busy_ns": (window - bubble).ravel(),
        "bubble_ns": bubble.ravel(),
        **{f"{part}_ns": lengths.ravel() for part, lengths in parts.items()},
    }
    return Bubbles(
        ranks=pa.table(by_rank, schema=_RANKS),
        stalls=_stalls(gaps, ranks, received),
        steps=_ratios(run, group, actions, gaps, bubble.sum(axis=1)),
        theory=None,
    )


def joined_bubbles(run: Recording, parts: Sequence[Bubbles]) -> Bubbles:
    """Those of several pipelines and steps as one: in order of step, then as `pipelines`."""
    tables = {
        name: pa.concat_tables([schema.empty_table(), *(getattr(part, name) for part in parts)])
        for name, schema in (("ranks", _RANKS), ("stalls", _STALLS), ("steps", _STEPS))
    }
    place = {rank: n for n, ranks in enumerate(pipelines(run).values()) for rank in ranks}
    return Bubbles(
        ranks=_in_order(tables["ranks"], "rank", place),
        stalls=_in_order(tables["stalls"], "rank", place),
        steps=ratios_in_order(run, tables["steps"]),
        theory=theory_of_run(run, tables["steps"]),
    )


def ratios_in_order(run: Recording, ratios: pa.Table) -> pa.Table:
    """`Bubbles.steps` of all pipelines in order of step, then as `pipelines`."""
    return _in_order(ratios, "group", {group: n for n, group in enumerate(pipelines(run))})


def theory_of_run(run: Recording, ratios: pa.Table) -> Theory | None:
    """`Bubbles.theory`; ratios: `Bubbles.steps`."""
    schedule = run.meta.schedule
    theory = theory_of(schedule) if schedule else None
    if schedule and theory and theory.over_ideal is None:
        measured = pc.unique(ratios["step"]).to_pylist()
        return with_lengths(theory, schedule, mean_lengths(run, measured))
    return theory


def _in_order(table: pa.Table, column: str, places: Mapping[Any, int]) -> pa.Table:
    """Rows by step, and within a step by the place of what `column` says."""
    known = pa.array(list(places), table.schema.field(column).type)
    place = pa.array(list(places.values()), pa.int32()).take(pc.index_in(table[column], known))
    keys = pa.table({"step": table["step"], "place": place})
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    return table.take(order).combine_chunks()


def _ratios(run: Recording, group: str, actions: pa.Table, gaps: Gaps, bubble: Ints) -> pa.Table:
    """`Bubbles.steps`; bubble: of all ranks in each step, ns."""
    count = gaps.first.shape[1]
    window = gaps.end - gaps.begin
    whole = count * window
    busy = whole - bubble
    bounds = plan_bounds(actions)
    complete = _cover_all_stages(run, actions, gaps.steps)
    known = np.array([bounds[step] is not None for step in gaps.steps.tolist()]) & complete
    bound = count * np.array([bounds[step] or 0 for step in gaps.steps.tolist()], np.int64)
    least = bound - busy
    ratios = {
        "step": gaps.steps,
        "group": pa.repeat(group, len(gaps.steps)),
        "window_start": gaps.begin,
        "window_ns": window,
        "bubble_fraction_of_window": _ratio(bubble, whole),
        "bubble_over_ideal": _ratio(bubble, busy),
        "plan_bound_fraction_of_window": _ratio(least, np.where(known, bound, 0)),
        "plan_bound_over_ideal": _ratio(least, np.where(known, busy, 0)),
    }
    return pa.table(ratios, schema=_STEPS)


def _cover_all_stages(run: Recording, actions: pa.Table, steps: Ints) -> npt.NDArray[np.bool_]:
    """Of each step, whether every stage of the run's schedule has actions."""
    plan = run.meta.schedule
    if plan is None:
        return np.ones(len(steps), np.bool_)
    of, stage = actions["step"].to_numpy(), actions["stage"].to_numpy()
    first, _ = numbered(of, stage)
    found: npt.NDArray[np.bool_] = np.unique(of[first], return_counts=True)[1] >= plan.stages
    return found


def _ratio(part: Ints, whole: Ints) -> pa.Array:
    """Null where the whole is 0."""
    return pa.array(part / np.where(whole, whole, 1), mask=whole == 0)


def receives(run: Recording, rank: int, steps: Collection[int] | None = None) -> Receives:
    """The spans in which the rank waited for a message, in order of end, and from whom."""
    return receives_of(operations(run, steps, ranks=[rank]))


def receives_of(table: pa.Table) -> Receives:
    """The same from the `operations` of a rank."""
    table = table.filter(pc.and_(pc.equal(table["op"], "recv"), pc.is_valid(table["peer"])))
    table = table.sort_by("end")
    start = pc.coalesce(table["wait_start"], table["start"]).to_numpy()
    spans = np.stack([start, table["end"].to_numpy()], axis=1).astype(np.int64)
    return spans, table["peer"].to_numpy()


def _stalls(gaps: Gaps, ranks: Sequence[int], received: Mapping[int, Receives]) -> pa.Table:
    """Each gap's length goes to the sender of the receive that ended last in it, else to itself."""
    culprit = np.array(ranks, np.int64)[gaps.stall_place]
    of_rank = rows_by_key(gaps.stall_place, len(ranks))
    for place, rank in enumerate(ranks):
        spans, peers = received[rank]
        if not len(spans):
            continue
        mine = of_rank[place]
        last = np.searchsorted(spans[:, 1], gaps.stall_end[mine], side="right") - 1
        waited = (last >= 0) & (spans[last, 1] > gaps.stall_begin[mine])
        culprit[mine[waited]] = peers[last[waited]]
    first, of = numbered(gaps.stall_step, gaps.stall_place, culprit)
    lengths = sums(of, gaps.stall_end - gaps.stall_begin, len(first))
    in_order = np.argsort(first)
    chosen = first[in_order]
    found = {
        "step": gaps.steps[gaps.stall_step[chosen]],
        "rank": np.array(ranks, np.int32)[gaps.stall_place[chosen]],
        "culprit_rank": culprit[chosen],
        "stall_ns": lengths[in_order],
    }
    return pa.table(found, schema=_STALLS)
