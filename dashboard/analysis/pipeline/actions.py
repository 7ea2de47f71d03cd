"""Pipeline actions: the forward and backward work of each rank, in the order it was done."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.dimensions import coordinate, role_of
from dashboard.analysis.steps import wanted_steps
from dashboard.runs.words import where
from tracer.schema import COMPUTE_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, slots=True, frozen=True)
class Action:
    """One piece of work: `kind` of `microbatch` on `stage`, times in ns on the common clock."""

    rank: int
    step: int
    kind: str
    stage: int
    microbatch: int
    start: int
    duration: int

    @property
    def end(self) -> int:
        """When it was done."""
        return self.start + self.duration


_COLUMNS: Final = ("step", "kind", "stage", "microbatch", "start", "duration")
_TABLE: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("step", pa.int32()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("stage", pa.int32()),
        ("microbatch", pa.int32()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
    ]
)


def pipeline_actions(
    run: Recording,
    steps: Collection[int] | None = None,
    *,
    ranks: Collection[int] | None = None,
) -> dict[int, list[Action]]:
    """Actions by step, each step's in order of start. Compute without a stage is none.

    Where a rank's device recorded all of a step's actions, they are as the device carried them
    out; the host, which recorded them too, only launched them.

    Before (events)                   After
    F0 host:main 0-2, device:7 1-11   F0 1-11
    """
    wanted = wanted_steps(run, steps)
    return {step: [] for step in wanted} | dict(by_step(action_table(run, wanted, ranks)))


def action_table(
    run: Recording, steps: Collection[int], ranks: Collection[int] | None = None
) -> pa.Table:
    """The same as a table, 36 bytes an action: rank, step, kind, stage, microbatch, start and
    duration (ns); each rank's in order of start.
    """
    chosen = [rank for rank in run.ranks if ranks is None or rank in ranks]
    parts = [_of_rank(run, rank, steps) for rank in chosen]
    return pa.concat_tables([_TABLE.empty_table(), *parts]).unify_dictionaries()


def by_step(actions: pa.Table) -> Iterator[tuple[int, list[Action]]]:
    """Each step of an `action_table` with its actions in order of start, made when it is asked for:
    as objects they take ten times the memory.
    """
    actions = actions.sort_by([(name, "ascending") for name in ("step", "start", "rank")])
    steps, begins, counts = np.unique(
        actions["step"].to_numpy(), return_index=True, return_counts=True
    )
    for step, begin, count in zip(steps.tolist(), begins.tolist(), counts.tolist(), strict=True):
        yield step, [Action(**row) for row in actions.slice(begin, count).to_pylist()]


def worked_on(run: Recording, step: int) -> set[tuple[int, int]]:
    """The stages and microbatches of all actions of a step. When these were is not read: times are
    nine tenths of a recording.
    """
    columns = ("step", "stage", "microbatch")
    told = pa.concat_tables([_told(run, rank, [step], columns) for rank in run.ranks])
    return set(zip(told["stage"].to_pylist(), told["microbatch"].to_pylist(), strict=True))


def _of_rank(run: Recording, rank: int, steps: Collection[int]) -> pa.Table:
    return _told(run, rank, steps, _COLUMNS).select(_TABLE.names).cast(_TABLE)


def _told(run: Recording, rank: int, steps: Collection[int], columns: Collection[str]) -> pa.Table:
    """These columns of a rank's actions."""
    events = run.events(ranks=[rank], steps=steps, kinds=COMPUTE_KINDS, columns=(*columns, "lane"))
    events = events.filter(pc.and_(pc.is_valid(events["stage"]), pc.is_valid(events["microbatch"])))
    on_device = where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:"))
    device = on_device.to_numpy().astype(np.bool_)
    _, step = np.unique(events["step"].to_numpy(), return_inverse=True)
    by_device = np.bincount(step, device) >= np.bincount(step, ~device)
    return events.filter(pa.array(device == by_device[step])).select(["rank", *columns])


def covers_all_stages(run: Recording, actions: Collection[Action]) -> bool:
    """Whether every stage of the run's schedule has actions; False where a rank is missing."""
    plan = run.meta.schedule
    return plan is None or len({action.stage for action in actions}) >= plan.stages


def pipelines(run: Recording) -> dict[str, tuple[int, ...]]:
    """The ranks of each pipeline, in its order: those that share every mesh coordinate but `pp`.

    Named by the other coordinates: `tp=0`, or `pipeline` if there is only one.
    """
    groups: dict[str, list[int]] = {}
    for rank in sorted(run.ranks, key=lambda rank: (_place(run, rank) or 0, rank)):
        groups.setdefault(pipeline_of(run, rank), []).append(rank)
    if len(groups) == 1:
        return {"pipeline": tuple(next(iter(groups.values())))}
    return {name or "pipeline": tuple(ranks) for name, ranks in sorted(groups.items())}


def pipeline_of(run: Recording, rank: int) -> str:
    """What ranks of one pipeline have in common, and no others: `dp=0,tp=1`, empty without others
    than `pp`.
    """
    coordinates = run.facts[rank].coordinates
    return ",".join(f"{k}={v}" for k, v in coordinates.items() if role_of(k) != "pp")


def places(run: Recording) -> dict[int, int]:
    """The place of each rank in its pipeline, from 0: its coordinate `pp`, also where ranks before
    it are missing; without that, the order of the ranks.
    """
    found: dict[int, int] = {}
    for ranks in pipelines(run).values():
        for position, rank in enumerate(ranks):
            place = _place(run, rank)
            found[rank] = position if place is None else place
    return found


def _place(run: Recording, rank: int) -> int | None:
    return coordinate(run.facts[rank].coordinates, "pp")
