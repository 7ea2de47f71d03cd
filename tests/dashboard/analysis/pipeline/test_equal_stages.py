"""The plan with equal stages against the closed forms of the literature, and on a recorded run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.pipeline.equal_stages import equal_stages, mean_lengths, with_lengths
from dashboard.analysis.pipeline.theory import Theory, theory_of
from tests.support.pipeline_toy import write_pipeline
from tracer.run_files import SchedulePlan

LENGTHS = {"forward": 10.0, "backward": 20.0, "backward_input": 12.0, "backward_weight": 8.0}
FIXED = {"ScheduleGPipe": 1, "Schedule1F1B": 1, "ScheduleZBVZeroBubble": 2, "ScheduleDualPipeV": 2}


def schedule(name: str, p: int, m: int, v: int) -> SchedulePlan:
    return SchedulePlan(name=name, stages=p * v, microbatches=m, virtual_stages=v, pipeline_size=p)


def without_closed_form(made: SchedulePlan) -> Theory:
    return replace(theory_of(made), over_ideal=None, fraction_of_window=None)


@pytest.mark.parametrize(
    "name",
    ["ScheduleGPipe", "Schedule1F1B", "ScheduleInterleaved1F1B", "ScheduleLoopedBFS"],
)
@given(
    p=st.integers(2, 5),
    rounds=st.integers(1, 3),
    v=st.integers(1, 3),
    forward=st.integers(1, 40),
    backward=st.integers(1, 40),
)
def test_it_has_the_bubble_of_the_closed_form(
    name: str, p: int, rounds: int, v: int, forward: int, backward: int
) -> None:
    made = schedule(name, p, rounds * p, FIXED.get(name, v))
    lengths = {"forward": float(forward), "backward": float(backward)}
    found = with_lengths(without_closed_form(made), made, lengths)
    closed = theory_of(made)
    assert found.over_ideal == pytest.approx(closed.over_ideal)
    assert found.fraction_of_window == pytest.approx(closed.fraction_of_window)


@pytest.mark.parametrize(("p", "m", "v"), [(2, 4, 2), (4, 8, 2), (4, 16, 2), (3, 9, 3)])
def test_interleaved_zero_bubble_is_zb1p(p: int, m: int, v: int) -> None:
    # Qi et al., section 3 (ZB-H1, which DeepSeek's table calls ZB1P): (p-1)(F + I - W), of which a
    # rank with v stages of a v-th each has a v-th; over m (F + I + W).
    made = schedule("ScheduleInterleavedZeroBubble", p, m, v)
    found = with_lengths(theory_of(made), made, LENGTHS)
    assert found.over_ideal == pytest.approx((p - 1) * (10 + 12 - 8) / (v * m * (10 + 12 + 8)))
    assert found.note.endswith("F 0.00, I 0.00, W 0.00")


def test_zero_bubble_v_has_none_in_each_ranks_own_window() -> None:
    # F, I and W of 10: every rank is busy for 2 x 8 x 30 = 480 without a pause, as its paper says.
    # The pipeline's window is longer, by the (p-1) forwards after which the last rank begins.
    made = schedule("ScheduleZBVZeroBubble", 4, 8, 2)
    equal = dict.fromkeys(("forward", "backward", "backward_input", "backward_weight"), 10.0)
    actions = equal_stages(made, equal | {"backward": 20.0})
    for rank in range(4):
        mine = [action for action in actions if action.rank == rank]
        assert max(a.end for a in mine) - min(a.start for a in mine) == 480
    found = with_lengths(theory_of(made), made, equal | {"backward": 20.0})
    assert found.over_ideal == pytest.approx(3 * 10 / 480)


def test_lengths_are_means_over_all_stages(tmp_path: Path) -> None:
    run = open_run(write_pipeline(tmp_path / "run", steps=2))
    assert mean_lengths(run, [0, 1]) == {"forward": 10_000, "backward": 20_000}


def test_a_plan_that_is_not_known_has_no_bubble_in_theory() -> None:
    made = schedule("ScheduleOfMyOwn", 4, 8, 1)
    assert equal_stages(made, LENGTHS) == []
    assert with_lengths(theory_of(made), made, LENGTHS).over_ideal is None


def test_a_kind_without_length_leaves_theory_open() -> None:
    made = schedule("ScheduleZBVZeroBubble", 4, 8, 2)
    assert with_lengths(theory_of(made), made, {"forward": 10.0}).over_ideal is None
