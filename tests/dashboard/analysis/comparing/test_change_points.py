"""Where the step time changes for good: Pettitt's test on paper, by property, and on runs."""

from __future__ import annotations

from itertools import combinations
from math import exp
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.comparing.change_points import SURE, change_points, moved, pettitt
from dashboard.figures.overview import step_times
from tests.support.straggler_toy import More, Toy, in_steps
from tests.support.toy import Event, write_run

SAMPLES = Path(__file__).parents[4] / "sample_traces"
WIDTH = 8
"""Of small series, in which U(k) can be counted pair by pair."""


def test_ten_times_100_then_ten_times_110() -> None:
    at, chance = pettitt(np.array([100.0] * 10 + [110.0] * 10))
    assert at == 10
    assert chance == pytest.approx(2 * exp(-6 * 100**2 / (20**3 + 20**2)))
    assert chance == pytest.approx(0.00158, rel=0.01)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=WIDTH))
def test_the_parting_is_the_one_that_counting_pairs_finds(values: list[int]) -> None:
    counted = [
        abs(
            sum(
                int(np.sign(values[j] - values[i]))
                for i, j in combinations(range(len(values)), 2)
                if i < k <= j
            )
        )
        for k in range(1, len(values))
    ]
    at, chance = pettitt(np.array(values, float))
    assert counted[at - 1] == max(counted)
    n = len(values)
    assert chance == pytest.approx(min(1, 2 * exp(-6 * max(counted) ** 2 / (n**3 + n**2))))


@settings(max_examples=30)
@given(st.permutations(range(9)))
def test_a_short_series_is_never_parted(values: list[int]) -> None:
    """Nine values part best into 4 and 5: K = 20, chance 2 exp(−2400/810) = 0.1."""
    assert pettitt(np.array(values, float))[1] > SURE


def test_a_split_moves_to_where_the_steps_lie_closest_to_their_levels() -> None:
    """Medians 100 and 110: one 100 too many before the split costs nothing, after it 10."""
    assert moved(np.array([100.0] * 8 + [110.0] * 12), [10]) == [8]
    assert moved(np.array([100.0] * 8 + [110.0] * 8 + [90.0] * 8), [6, 17]) == [8, 16]


@given(
    lows=st.integers(30, 60), highs=st.integers(20, 30), seed=st.integers(0, 1_000),
)  # fmt: skip
def test_a_change_is_told_to_the_step_also_where_one_level_lasted_longer(
    lows: int, highs: int, seed: int
) -> None:
    """Steps of 800 and 1,000 with 20 around them: the slowest of the many 800 rank as high as any
    in a window that holds few of the others, and the test by ranks alone is a few steps off.
    """
    level = np.repeat([800.0, 1000.0, 800.0], [lows, highs, lows])
    series = level + np.random.default_rng(seed).uniform(-20, 20, len(level))
    split = np.array([lows + 3, lows + highs + 3])
    assert moved(series, split.tolist()) == [lows, lows + highs]


def test_a_regression_and_its_category_are_found(tmp_path: Path) -> None:
    """Steps of 120; from step 11 on both ranks work 30 longer, from step 21 on only rank 1, and
    from step 31 on nobody: 150 for both, and 150, and 120 again.
    """
    both = {
        **in_steps(range(11, 21), 0, More(work=30)),
        **in_steps(range(11, 31), 1, More(work=30)),
    }
    run = open_run(Toy(ranks=2, steps=42, more=both).write(tmp_path / "run"))
    worse, better = change_points(run)
    assert (worse.step, worse.before_ns, worse.after_ns) == (11, 120_000, 150_000)
    assert worse.start == 11 * 120_000
    assert worse.relative == pytest.approx(0.25)
    # Both work 30 longer in half of these steps, one of them in the others: 22.5 on average.
    assert (worse.category, worse.category_ns) == ("compute", pytest.approx(22_500))
    assert (better.step, better.relative) == (31, pytest.approx(-0.2))
    assert worse.chance < SURE
    marks = step_times(run.accounting(), "dark", (worse, better)).layout
    assert [shape.x0 for shape in marks.shapes] == [10.5, 30.5]
    assert [note.text for note in marks.annotations] == ["+25.0 %", "−20.0 %"]


def test_what_is_small_or_short_is_none(tmp_path: Path) -> None:
    """1 of 120 is under 2 %; and one slow step, however slow, is no level."""
    small = in_steps(range(15, 30), 0, More(work=1))
    short = in_steps(range(15, 16), 1, More(work=500))
    run = open_run(Toy(ranks=2, steps=30, more={**small, **short}).write(tmp_path / "run"))
    assert change_points(run) == ()


def test_the_first_step_warms_up(tmp_path: Path) -> None:
    run = open_run(Toy(ranks=2, steps=3, more=in_steps([0], 0, More(work=900))).write(tmp_path))
    assert change_points(run) == ()


def test_without_steps_there_is_none(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", {0: [Event(start=0, duration=1, kind="user")]}))
    assert change_points(run) == ()


@pytest.mark.parametrize("sample", sorted(path.parent.name for path in SAMPLES.glob("*/run.json")))
def test_quiet_recorded_runs_have_none(sample: str) -> None:
    assert change_points(open_run(SAMPLES / sample)) == ()
