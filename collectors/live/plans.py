"""What a pipeline schedule is about to do: every rank's actions in order, in torch's notation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

from collectors.live.custom_actions import KINDS
from tracer.run_files import SchedulePlan


def schedule_stages(schedule: Any) -> list[Any]:
    """The stages of this rank, of a schedule with one or with several of them."""
    return list(schedule._stages) if hasattr(schedule, "_stages") else [schedule._stage]


def plan_of(schedule: Any) -> SchedulePlan:
    """Name, sizes and plan of a schedule object of torch.distributed.pipelining."""
    stages = schedule_stages(schedule)
    return SchedulePlan(
        name=type(schedule).__name__,
        stages=stages[0].num_stages,
        microbatches=schedule._n_microbatches,
        virtual_stages=len(stages),
        pipeline_size=stages[0].group_size,
        plan=_plan(schedule, stages[0].num_stages, schedule._n_microbatches),
    )


def gpipe_order(stage: int, stages: int, microbatches: int) -> list[str]:
    """Stage 1 of 2, 2 microbatches: `1F0 1F1 1B0 1B1`."""
    return [f"{stage}{kind}{i}" for kind in "FB" for i in range(microbatches)]


def one_forward_one_backward_order(stage: int, stages: int, microbatches: int) -> list[str]:
    """Stage 0 of 2, 3 microbatches: `0F0 0F1 0B0 0F2 0B1 0B2`."""
    ahead = min(microbatches, stages - stage)
    actions = [f"{stage}F{i}" for i in range(ahead)]
    for i in range(microbatches):
        actions.append(f"{stage}B{i}")
        if ahead + i < microbatches:
            actions.append(f"{stage}F{ahead + i}")
    return actions


_ORDERS: Final[dict[type, Callable[[int, int, int], list[str]]]] = {
    ScheduleGPipe: gpipe_order,
    Schedule1F1B: one_forward_one_backward_order,
}
"""Schedules of one stage per rank execute an order that they hold in code, not in a table. Their
`_get_pipeline_order` is a second account of it, and in torch 2.13 a wrong one for the last stage
of 1F1B (it starts with microbatch 1); so these follow the `_step_microbatches` that runs."""


def _plan(schedule: Any, stages: int, microbatches: int) -> dict[int, tuple[str, ...]]:
    order = _ORDERS.get(type(schedule))
    if order is not None:
        return {stage: tuple(order(stage, stages, microbatches)) for stage in range(stages)}
    # A schedule that was read from a file with its communication has only the second table.
    table = getattr(schedule, "pipeline_order", None) or getattr(
        schedule, "pipeline_order_with_comms", None
    )
    if table is None:
        table = schedule._get_pipeline_order() or {}
    return {
        int(rank): tuple(
            str(action) for action in actions if action is not None and _is_work(action)
        )
        for rank, actions in table.items()
    }


def _is_work(action: Any) -> bool:
    """Whether it computes; sends, receives and (un)sharding follow from the computations."""
    return action.computation_type.name in (*KINDS, "OVERLAP_F_B")
