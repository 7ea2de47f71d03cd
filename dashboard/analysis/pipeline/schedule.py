"""The schedule of one step: each stage's actions in time, as measured, replayed and planned.

*Replayed* is the replay of the plan bound: the same actions, equally long, in the same order, none
waiting for communication. *Planned* is the order that the schedule asks for, with stages that are
all equally long: what theory promises. From one to the next they show where the time went.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.actions import (
    Action,
    covers_all_stages,
    pipeline_actions,
    pipelines,
)
from dashboard.analysis.pipeline.equal_stages import equal_stages
from dashboard.analysis.pipeline.plan_bound import replay
from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from dashboard.runs import Recording

_ACTIONS: Final = pa.schema(
    [
        ("rank", pa.int32()),
        ("stage", pa.int32()),
        ("kind", pa.string()),
        ("microbatch", pa.int32()),
        ("start", pa.int64()),
        ("duration", pa.int64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class StepSchedule(Result):
    """The actions of one step of one pipeline.

    measured, replayed, planned: rank, stage, kind, microbatch, start and duration in ns, start
        counted from the pipeline window's; replayed is empty where the step cannot be replayed,
        planned where the run has no schedule that we can make plans of. In planned every action
        of a kind takes the mean of the measured ones.
    window_start: where that window begins in the run, ns; None without actions.
    """

    step: int
    group: str
    window_start: int | None
    measured: pa.Table
    replayed: pa.Table
    planned: pa.Table

    @property
    def window(self) -> tuple[int, int] | None:
        """Start and end of the pipeline window in the run, ns; None without actions."""
        if self.window_start is None:
            return None
        ends = pc.add(self.measured["start"], self.measured["duration"])
        return self.window_start, self.window_start + int(pc.max(ends).as_py())


def step_schedule(run: Recording, step: int, group: str) -> StepSchedule:
    """The schedule of `step` in the pipeline `group` (a key of `pipelines`)."""
    ranks = pipelines(run).get(group, ())
    actions = [a for a in pipeline_actions(run, [step]).get(step, []) if a.rank in ranks]
    begin = min((action.start for action in actions), default=None)
    return StepSchedule(
        step=step,
        group=group,
        window_start=begin,
        measured=_table(actions, begin or 0),
        replayed=_table(_replayed(run, actions), 0),
        planned=_table(_planned(run, actions, ranks), 0),
    )


def _replayed(run: Recording, actions: list[Action]) -> list[Action]:
    return (replay(actions) or []) if covers_all_stages(run, actions) else []


def _planned(run: Recording, actions: list[Action], ranks: Sequence[int]) -> list[Action]:
    """The schedule's own order with equally long stages, none waiting for communication."""
    recorded = run.meta.schedule
    if recorded is None or not covers_all_stages(run, actions):
        return []
    spent: dict[str, list[int]] = defaultdict(list)
    for action in actions:
        spent[action.kind].append(action.duration)
    return equal_stages(recorded, {kind: mean(ns) for kind, ns in spent.items()}, ranks)


def _table(actions: Iterable[Action], begin: int) -> pa.Table:
    rows = [
        {
            "rank": action.rank,
            "stage": action.stage,
            "kind": action.kind,
            "microbatch": action.microbatch,
            "start": action.start - begin,
            "duration": action.duration,
        }
        for action in actions
    ]
    return pa.Table.from_pylist(rows, schema=_ACTIONS).sort_by("start")
