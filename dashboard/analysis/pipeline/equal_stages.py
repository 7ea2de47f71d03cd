"""The plan with equally long stages: a schedule's own order, free messages, one length per kind.

It is what theory promises. Where theory has a closed form, this gives the same; where the bubble
depends on how long F, B and W take (the zero-bubble family), this gives it for recorded lengths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.pipeline.actions import Action
from dashboard.analysis.pipeline.plan_bound import replay
from dashboard.analysis.pipeline.plans import KIND_OF, plan_of
from dashboard.analysis.pipeline.theory import Theory
from dashboard.runs.words import where
from tracer.run_files import SchedulePlan
from tracer.schema import COMPUTE_KINDS

if TYPE_CHECKING:
    from dashboard.runs import Recording

_LETTERS: Final = {kind: letter for letter, kind in KIND_OF.items()}


def equal_stages(
    schedule: SchedulePlan, ns: Mapping[str, float], ranks: Sequence[int] | None = None
) -> list[Action]:
    """The actions of the plan, where those of each kind take `ns`; on `ranks`, 0 to p - 1 by
    default. Empty where no plan can be made, or a kind that it needs has no length.
    """
    made = plan_of(schedule)
    if made is None:
        return []
    wanted = {action.kind for order in made.actions for action in order}
    places = range(made.p) if ranks is None else ranks
    if len(places) < made.p or not wanted <= ns.keys():
        return []
    ordered = [
        Action(
            rank=rank,
            step=0,
            kind=action.kind,
            stage=action.stage,
            microbatch=action.microbatch,
            start=place,
            duration=round(ns[action.kind]),
        )
        for rank, order in zip(places, made.actions, strict=False)
        for place, action in enumerate(order)
    ]
    return replay(ordered) or []


def mean_lengths(run: Recording, steps: Collection[int]) -> dict[str, float]:
    """By kind, the mean length of actions in these steps, ns; on the device where that did them."""
    sums: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for rank in run.ranks:
        for row in _lengths(run, rank, steps):
            sums[row["on_device"]][row["kind"]] += row["ns_sum"]
            counts[row["on_device"]][row["kind"]] += row["ns_count"]
    which = bool(counts[True])
    return {kind: sums[which][kind] / count for kind, count in counts[which].items()}


def _lengths(run: Recording, rank: int, steps: Collection[int]) -> list[dict[str, Any]]:
    """Of one rank: on_device, kind, ns_sum and ns_count."""
    columns = ("kind", "duration", "lane", "stage", "microbatch")
    events = run.events(ranks=[rank], steps=steps, kinds=COMPUTE_KINDS, columns=columns)
    events = events.filter(pc.and_(pc.is_valid(events["stage"]), pc.is_valid(events["microbatch"])))
    lengths = pa.table(
        {
            "on_device": where(events["lane"], lambda lanes: pc.starts_with(lanes, "device:")),
            "kind": events["kind"].cast(pa.string()),
            "ns": events["duration"],
        }
    )
    summed = lengths.group_by(["on_device", "kind"], use_threads=False)
    found: list[dict[str, Any]] = summed.aggregate([("ns", "sum"), ("ns", "count")]).to_pylist()
    return found


def with_lengths(theory: Theory, schedule: SchedulePlan, ns: Mapping[str, float]) -> Theory:
    """`theory` where it has no closed form: the bubble of the plan with these lengths by kind."""
    actions = equal_stages(schedule, ns)
    window = max((action.end for action in actions), default=0)
    busy = sum(action.duration for action in actions)
    if theory.over_ideal is not None or not busy:
        return theory
    whole = window * schedule.pipeline_size
    used = {action.kind for action in actions}
    said = ", ".join(
        f"{letter} {ns[kind] / 1e6:.2f}" for kind, letter in _LETTERS.items() if kind in used
    )
    return replace(
        theory,
        fraction_of_window=(whole - busy) / whole,
        over_ideal=(whole - busy) / busy,
        note=f"the plan with equal stages and the recorded mean lengths, ms: {said}",
    )
