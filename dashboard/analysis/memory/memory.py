"""Memory of each rank over time, beside the microbatches whose activations it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.actions import Action, pipeline_actions, places
from dashboard.analysis.pipeline.plans import in_flight, plan_of
from dashboard.analysis.results import Result
from dashboard.analysis.steps import step_windows

if TYPE_CHECKING:
    from dashboard.runs import Recording

ALLOCATED: Final = "memory.allocated/bytes"
PEAK: Final = "memory.peak/bytes"
RESIDENT: Final = "memory.resident/bytes"
MOST_POINTS: Final = 500
"""Of a rank's timeline: each stands for a stretch of time and is the most in it."""

_RANKS: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("peak_bytes", pa.float64()),
        ("peak_at", pa.int64()),
        ("mean_bytes", pa.float64()),
        ("peak_in_flight", pa.int32()),
        ("plan_in_flight", pa.int32()),
    ]
)
_TIMELINE: Final = pa.schema([("rank", pa.int32()), ("ts", pa.int64()), ("bytes", pa.float64())])
_IN_FLIGHT: Final = pa.schema([("rank", pa.int32()), ("ts", pa.int64()), ("count", pa.int32())])


@dataclass(kw_only=True, frozen=True)
class Memory(Result):
    """Memory in bytes, times in ns from the run's start.

    counter: what was sampled: torch's allocator where there is a device, else the process's
        resident memory (which holds the interpreter and libraries, too); None: nothing.
    ranks: rank, peak_bytes and peak_at, mean_bytes (null without samples), peak_in_flight: the
        most microbatches (times stages) that were forwarded and not yet backwarded,
        plan_in_flight: the same by the schedule's plan (null where there is none).
    timeline: rank, ts, bytes; in_flight: rank, ts, count from then on. Both at most `MOST_POINTS`
        per rank.
    """

    counter: str | None
    ranks: pa.Table
    timeline: pa.Table
    in_flight: pa.Table


def measure_memory(run: Recording, steps: Collection[int] | None = None) -> Memory:
    """Over the windows of the complete steps, or of those of `steps`."""
    windows = step_windows(run, steps)
    ends = pc.add(windows["start"], windows["duration"])
    begin, end = pc.min(windows["start"]).as_py() or 0, pc.max(ends).as_py() or 0
    counters = run.counters.filter(pc.less_equal(run.counters["ts"], end))
    inside = counters.filter(pc.greater_equal(counters["ts"], begin))
    names = set(pc.unique(inside["name"]).to_pylist())
    counter = next((name for name in (ALLOCATED, RESIDENT) if name in names), None)
    by_rank: dict[int, list[Action]] = {rank: [] for rank in run.ranks}
    for actions in pipeline_actions(run, steps).values():
        for action in actions:
            by_rank[action.rank].append(action)
    planned = _planned(run)
    rows: list[dict[str, Any]] = []
    timeline, held = [_TIMELINE.empty_table()], [_IN_FLIGHT.empty_table()]
    for rank in run.ranks:
        of_rank = pc.and_(pc.equal(inside["rank"], rank), pc.equal(inside["name"], counter or ""))
        samples = inside.filter(of_rank)
        changes = list(_held(by_rank[rank]))
        rows.append(
            {
                "rank": rank,
                "mean_bytes": pc.mean(samples["value"]).as_py(),
                "peak_in_flight": max((count for _, count in changes), default=0),
                "plan_in_flight": planned.get(rank),
                **_peak(counters.filter(pc.equal(counters["rank"], rank)), samples, begin),
            }
        )
        timeline.append(_bounded(rank, samples["ts"], samples["value"], _TIMELINE))
        starts = [at for at, _ in changes]
        held.append(_bounded(rank, starts, [count for _, count in changes], _IN_FLIGHT))
    return Memory(
        counter=counter,
        ranks=pa.Table.from_pylist(rows, schema=_RANKS),
        timeline=pa.concat_tables(timeline),
        in_flight=pa.concat_tables(held),
    )


def is_sampled(run: Recording) -> bool:
    """Whether the run has memory anywhere, in these steps or not."""
    return bool({ALLOCATED, RESIDENT} & {*pc.unique(run.counters["name"]).to_pylist()})


def _peak(mine: pa.Table, samples: pa.Table, begin: int) -> dict[str, Any]:
    """The largest sample and when that was; or the allocator's own peak, if it rose since `begin`:
    it counts from the start of the process, so that one of an earlier step says nothing of these.
    """
    if not samples.num_rows:
        return {"peak_bytes": None, "peak_at": None}
    at = int(np.argmax(samples["value"].to_numpy()))
    most = samples["value"][at].as_py()
    told = mine.filter(pc.equal(mine["name"], PEAK))
    earlier = pc.less(told["ts"], begin)
    before = pc.max(told.filter(earlier)["value"]).as_py() or 0.0
    since = pc.max(told.filter(pc.invert(earlier))["value"]).as_py() or 0.0
    most = max(most, since) if since > before else most
    return {"peak_bytes": most, "peak_at": samples["ts"][at].as_py()}


def _held(actions: Sequence[Action]) -> Iterator[tuple[int, int]]:
    """When the number of microbatches that a rank holds changes, and to what.

    Only forwards that a backward of their step follows hold anything: an evaluation keeps nothing.

    F 0-10, F 10-20, B 20-40, B 40-60 → (0, 1), (10, 2), (40, 1), (60, 0)
    """
    forwards: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    changes: list[tuple[int, int]] = []
    for action in sorted(actions, key=lambda action: action.start):
        begun = forwards[action.step, action.stage, action.microbatch]
        if action.kind == "forward":
            begun.append(action.start)
        elif action.kind != "backward_input" and begun:
            changes += [(begun.pop(), 1), (action.end, -1)]
    held = 0
    for at, change in sorted(changes):
        held += change
        yield at, held


def _planned(run: Recording) -> dict[int, int]:
    """By rank, what the schedule's plan holds at most."""
    recorded = run.meta.schedule
    made = None if recorded is None else plan_of(recorded)
    if made is None:
        return {}
    held = {place: in_flight(actions) for place, actions in enumerate(made.actions)}
    return {rank: held[place] for rank, place in places(run).items() if place in held}


def _bounded(rank: int, times: Any, values: Any, schema: pa.Schema) -> pa.Table:
    """At most `MOST_POINTS` rows: of each stretch of so many the largest, at its own time."""
    ts, value = np.asarray(times, np.int64), np.asarray(values, np.float64)
    if len(ts) > MOST_POINTS:
        edges = np.linspace(0, len(ts), MOST_POINTS + 1).astype(int)[:-1]
        most = np.maximum.reduceat(value, edges)
        stretch = np.repeat(np.arange(MOST_POINTS), np.diff([*edges, len(ts)]))
        places = np.flatnonzero(value == most[stretch])
        _, first = np.unique(stretch[places], return_index=True)
        ts, value = ts[places[first]], most
    columns = [pa.array(np.full(len(ts), rank), pa.int32()), ts, value]
    arrays = [pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
