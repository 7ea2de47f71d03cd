"""Plans: those that torch's own schedules have, and such that they can be carried out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules

from collectors.live.plans import gpipe_order, one_forward_one_backward_order
from dashboard.analysis.pipeline.actions import Action
from dashboard.analysis.pipeline.plan_bound import replay
from dashboard.analysis.pipeline.plans import KIND_OF, SCHEDULES, Plan, in_flight, plan
from tracer.errors import UsageError

LETTER = {kind: letter for letter, kind in KIND_OF.items()}
TORCH_LETTER = {
    "FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W",
}  # fmt: skip
IN_TABLES = [name for name in SCHEDULES if name not in ("ScheduleGPipe", "Schedule1F1B")]


def _written(plan: Plan, rank: int) -> list[str]:
    return [f"{a.stage}{LETTER[a.kind]}{a.microbatch}" for a in plan.actions[rank]]


def _torchs(name: str, *, p: int, m: int, v: int) -> Any:
    """torch's schedule object, around stages that only know their numbers."""
    v_shaped = SCHEDULES[name].is_v_shaped
    held = [0, 2 * p - 1] if v_shaped else range(0, p * v, p)
    stages = [
        SimpleNamespace(
            stage_index=index, num_stages=p * v, group_size=p, group_rank=0, has_backward=True,
            is_first=index == 0, is_last=index == p * v - 1, submod=None, group=None,
            device="cpu",
        )
        for index in held
    ]  # fmt: skip
    return getattr(schedules, name)(stages, m)


def _flat(actions: Any) -> Iterator[str]:
    for action in actions:
        if action is not None and action.sub_actions:
            yield from _flat(action.sub_actions)
        elif action is not None:
            letter = TORCH_LETTER[action.computation_type.name]
            yield f"{action.stage_index}{letter}{action.microbatch_index}"


@pytest.mark.parametrize("name", IN_TABLES)
@pytest.mark.parametrize("p", [1, 2, 3, 4, 8])
def test_the_order_is_torchs(name: str, p: int) -> None:
    tried = 0
    for m in (1, 2, 3, 4, 6, 8, 12, 16, 17):
        for v in (1, 2, 3):
            try:
                ours = plan(name, p=p, m=m, v=v)
            except UsageError:
                if v == 2 or not SCHEDULES[name].is_v_shaped:
                    with pytest.raises(ValueError, match=r"micro|round|stages"):
                        _torchs(name, p=p, m=m, v=v)
                continue
            theirs = _torchs(name, p=p, m=m, v=v).pipeline_order
            for rank in range(p):
                assert _written(ours, rank) == list(_flat(theirs[rank])), (m, v, rank)
            tried += 1
    assert tried > 1


@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 3), (4, 4), (4, 9), (8, 8)])
def test_one_stage_per_rank_as_torch_carries_it_out(p: int, m: int) -> None:
    """torch's own table is wrong for 1F1B (collectors/live/plans.py): ours is what runs."""
    for rank in range(p):
        assert _written(plan("ScheduleGPipe", p=p, m=m), rank) == gpipe_order(rank, p, m)
        expected = one_forward_one_backward_order(rank, p, m)
        assert _written(plan("Schedule1F1B", p=p, m=m), rank) == expected


def test_a_plan_by_hand() -> None:
    made = plan("ScheduleInterleaved1F1B", p=2, m=2, v=2)
    assert made.rank_of_stage == (0, 1, 0, 1)
    assert _written(made, 0) == ["0F0", "0F1", "2F0", "2F1", "2B0", "2B1", "0B0", "0B1"]
    assert _written(made, 1) == ["1F0", "1F1", "3F0", "3B0", "3F1", "3B1", "1B0", "1B1"]
    assert plan("ScheduleZBVZeroBubble", p=3, m=5, v=2).rank_of_stage == (0, 1, 2, 2, 1, 0)


def test_microbatches_in_flight_by_hand() -> None:
    """1F1B holds as many as there are ranks behind, itself included; GPipe holds them all."""
    assert [in_flight(rank) for rank in plan("Schedule1F1B", p=4, m=8).actions] == [4, 3, 2, 1]
    assert [in_flight(rank) for rank in plan("ScheduleGPipe", p=4, m=8).actions] == [8] * 4
    # ZBV: 2 p per rank, evenly (Qi et al., arXiv 2401.10241, section 6).
    assert {in_flight(r) for r in plan("ScheduleZBVZeroBubble", p=4, m=16, v=2).actions} == {8}


@pytest.mark.parametrize(
    ("name", "sizes", "said"),
    [
        ("ScheduleMagic", {"p": 2, "m": 2}, "no schedule 'ScheduleMagic'; there are: ScheduleGP"),
        ("Schedule1F1B", {"p": 4, "m": 8, "v": 2}, "has 1 stages per rank, not 2"),
        ("ScheduleInterleaved1F1B", {"p": 2, "m": 5, "v": 2}, "goes in 2 rounds, of which m=5"),
        ("ScheduleDualPipeV", {"p": 2, "m": 3, "v": 2}, "needs at least 4 microbatches, not 3"),
        ("ScheduleGPipe", {"p": 0, "m": 3}, "must be at least 1"),
        ("ScheduleGPipe", {"p": 8, "m": 10**9}, "make more than 1,000,000 forwards"),
    ],
)
def test_sizes_that_cannot_be(name: str, sizes: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(name, **sizes)


@given(
    name=st.sampled_from(list(SCHEDULES)),
    p=st.integers(1, 6),
    m=st.integers(1, 20),
    v=st.integers(1, 3),
)
def test_every_plan_can_be_carried_out(name: str, p: int, m: int, v: int) -> None:
    """Every stage does every microbatch forwards and backwards once, and nothing waits for ever."""
    try:
        made = plan(name, p=p, m=m, v=v)
    except UsageError:
        return
    done = Counter(
        (part, action.stage, action.microbatch)
        for rank in made.actions
        for action in rank
        for part in ("IW" if LETTER[action.kind] == "B" else LETTER[action.kind])
    )
    assert done == {(k, s, n): 1 for k in "FIW" for s in range(p * v) for n in range(m)}
    assert all(
        made.rank_of_stage[a.stage] == r for r, rank in enumerate(made.actions) for a in rank
    )
    actions = [
        Action(rank=r, step=0, start=at, duration=1, kind=a.kind, stage=a.stage,
               microbatch=a.microbatch)
        for r, rank in enumerate(made.actions)
        for at, a in enumerate(rank)
    ]  # fmt: skip
    assert replay(actions) is not None
