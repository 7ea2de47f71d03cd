"""Pipeline actions: the forward and backward work of each rank, in the order it was done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboard.analysis.dimensions import coordinate, role_of
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
    wanted = [step for step in run.steps if steps is None or step in steps]
    columns = ("step", "kind", "stage", "microbatch", "start", "duration", "lane")
    events = run.events(ranks=ranks, steps=wanted, kinds=COMPUTE_KINDS, columns=columns)
    on_host: dict[tuple[int, int], list[Action]] = defaultdict(list)
    on_device: dict[tuple[int, int], list[Action]] = defaultdict(list)
    for row in events.to_pylist():
        lanes = on_device if row.pop("lane").startswith("device:") else on_host
        if row["stage"] is not None and row["microbatch"] is not None:
            lanes[row["step"], row["rank"]].append(Action(**row))
    found: dict[int, list[Action]] = {step: [] for step in wanted}
    for key in on_host.keys() | on_device.keys():
        of_device, of_host = on_device.get(key, []), on_host.get(key, [])
        found[key[0]] += of_device if len(of_device) >= len(of_host) else of_host
    for actions in found.values():
        actions.sort(key=lambda action: (action.start, action.rank))
    return found


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
        coordinates = run.facts[rank].coordinates
        others = {k: v for k, v in coordinates.items() if role_of(k) != "pp"}
        groups.setdefault(",".join(f"{k}={v}" for k, v in others.items()), []).append(rank)
    if len(groups) == 1:
        return {"pipeline": tuple(next(iter(groups.values())))}
    return {name or "pipeline": tuple(ranks) for name, ranks in sorted(groups.items())}


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
