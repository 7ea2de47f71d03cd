"""Pipeline actions: the forward and backward work of each rank, in the order it was done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def pipeline_actions(
    run: Recording, steps: Collection[int] | None = None
) -> dict[int, list[Action]]:
    """Actions by step, each step's in order of start. Compute without a stage is none."""
    wanted = [step for step in run.steps if steps is None or step in steps]
    columns = ("step", "kind", "stage", "microbatch", "start", "duration")
    events = run.events(steps=wanted, kinds=COMPUTE_KINDS, columns=columns)
    found: dict[int, list[Action]] = {step: [] for step in wanted}
    for row in events.to_pylist():
        if row["stage"] is not None and row["microbatch"] is not None:
            found[row["step"]].append(Action(**row))
    for actions in found.values():
        actions.sort(key=lambda action: (action.start, action.rank))
    return found


def covers_all_stages(run: Recording, actions: Collection[Action]) -> bool:
    """Whether every stage of the run's schedule has actions; False where a rank is missing."""
    plan = run.meta.schedule
    return plan is None or len({action.stage for action in actions}) >= plan.stages


def pipelines(run: Recording) -> dict[str, tuple[int, ...]]:
    """The ranks of each pipeline: those that share every mesh coordinate but `pp`.

    Named by the other coordinates: `tp=0`, or `pipeline` if there is only one.
    """
    groups: dict[str, list[int]] = {}
    for rank in run.ranks:
        others = {k: v for k, v in run.facts[rank].coordinates.items() if k != "pp"}
        groups.setdefault(",".join(f"{k}={v}" for k, v in others.items()), []).append(rank)
    if len(groups) == 1:
        return {"pipeline": tuple(next(iter(groups.values())))}
    return {name or "pipeline": tuple(ranks) for name, ranks in sorted(groups.items())}
