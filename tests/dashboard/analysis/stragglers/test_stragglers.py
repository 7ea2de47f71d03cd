"""Stragglers on paper: each cause is told from the others, and costs what the replay says by hand.

Of eight steps the last seven count, since the first warms up. A step is 10 + 100 + 10 = 120.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.rows_by_key import medians_of_other_rows
from dashboard.analysis.stragglers.jitter import clipped
from dashboard.analysis.stragglers.stragglers import Straggler, Stragglers, find_stragglers
from tests.support.straggler_toy import LOAD, MESSAGE, SCALE, STEP, WORK, More, Toy, in_steps

ALL = range(8)
COUNTED = 7


def _stragglers(tmp_path: Path, toy: Toy) -> Stragglers:
    return find_stragglers(open_run(toy.write(tmp_path / "run")))


def _only(found: Stragglers) -> Straggler:
    assert len(found.found) == 1, [straggler.text for straggler in found.found]
    return found.found[0]


def _units(straggler: Straggler) -> float:
    """What it costs per step, in the unit of the paper."""
    return straggler.ms_per_step * 1e6 / SCALE


def test_nobody_is_a_straggler_where_all_take_as_long(tmp_path: Path) -> None:
    found = _stragglers(tmp_path, Toy())
    assert found.found == ()
    assert found.steps == tuple(range(1, 8))
    assert found.step_ns == STEP * SCALE
    assert found.replay_error == 0


def test_a_rank_that_is_always_slower_than_its_peers(tmp_path: Path) -> None:
    """Rank 1 works 120 where the others work 100: the step takes 140, and 120 without it."""
    found = _only(_stragglers(tmp_path, Toy(more=in_steps(ALL, 1, More(work=20)))))
    assert (found.cause, found.rank, found.stage) == ("slow rank", 1, None)
    assert found.slowdown == pytest.approx(0.2)
    assert _units(found) == pytest.approx(20)
    assert found.share == pytest.approx(20 / 140)
    assert (found.low_ms, found.high_ms) == pytest.approx((0.02, 0.02))
    assert found.confidence == "high"
    worst = found.evidence[0]
    # Step 1 begins at 140; the forward comes after the load.
    assert (worst.rank, worst.step, worst.name) == (1, 1, "F")
    assert (worst.start, worst.duration) == ((140 + LOAD) * SCALE, 120 * SCALE)
    assert worst.expected == WORK * SCALE
    assert worst.window == ((150 - 120) * SCALE, (150 + 240) * SCALE)


def test_the_faster_of_two_peers_is_not_the_straggler(tmp_path: Path) -> None:
    found = _only(_stragglers(tmp_path, Toy(ranks=2, more=in_steps(ALL, 0, More(work=10)))))
    assert (found.cause, found.rank) == ("slow rank", 0)


def test_a_slow_stage_is_told_from_a_slow_rank(tmp_path: Path) -> None:
    """Both ranks of stage 1 work 50 longer: 10 + 100, a message 4, 150, 10: 274, and 224."""
    more = in_steps(ALL, 1, More(work=50)) | in_steps(ALL, 3, More(work=50))
    found = _only(_stragglers(tmp_path, Toy(ranks=4, pairs=True, more=more)))
    assert (found.cause, found.stage, found.rank) == ("slow stage", 1, None)
    assert found.slowdown == pytest.approx(0.5)
    assert _units(found) == pytest.approx(50)
    assert "only rank" not in found.text


def test_a_slow_rank_of_a_stage_leaves_the_stage_alone(tmp_path: Path) -> None:
    more = in_steps(ALL, 3, More(work=50))
    found = _only(_stragglers(tmp_path, Toy(ranks=4, pairs=True, more=more)))
    assert (found.cause, found.rank, found.stage) == ("slow rank", 3, 1)
    assert _units(found) == pytest.approx(50)


def test_without_peers_rank_and_stage_cannot_be_told_apart_and_that_is_said(tmp_path: Path) -> None:
    more = in_steps(ALL, 1, More(work=50))
    found = _only(_stragglers(tmp_path, Toy(ranks=2, pairs=True, more=more)))
    assert (found.cause, found.stage, found.rank) == ("slow stage", 1, 1)
    assert "only rank 1 holds it" in found.text


@pytest.mark.parametrize(
    ("cause", "more", "name"),
    [
        ("slow steps", More(work=50), "F"),
        ("data loading", More(load=50), "load"),
        ("garbage collection", More(garbage=50), "garbage collection"),
        ("host gaps", More(gap=50), "no span"),
    ],
)
def test_what_comes_now_and_then_is_told_by_where_it_lies(
    tmp_path: Path, cause: str, more: More, name: str
) -> None:
    """Steps 3 and 5 take 50 longer: 100 over seven steps."""
    found = _only(_stragglers(tmp_path, Toy(more=in_steps((3, 5), 2, more))))
    assert (found.cause, found.rank, found.steps) == (cause, 2, (3, 5))
    assert _units(found) == pytest.approx(2 * 50 / COUNTED)
    assert found.evidence[0].name == name
    assert {evidence.step for evidence in found.evidence[:2]} == {3, 5}


def test_a_stall_in_one_action_is_told_from_a_step_that_is_slow_throughout(tmp_path: Path) -> None:
    """Work is five actions of 20. All take 30 on rank 0 in steps 3 and 5, and one takes 70 on
    rank 1 in steps 2 and 6: each is 50 late.
    """
    more = in_steps((3, 5), 0, More(work=50)) | in_steps((2, 6), 1, More(stall=50))
    found = _stragglers(tmp_path, Toy(parts=5, more=more)).found
    by_cause = {straggler.cause: straggler for straggler in found}
    assert len(found) == 2
    slow, stalls = by_cause["slow steps"], by_cause["stalls"]
    assert (slow.rank, slow.steps, stalls.rank, stalls.steps) == (0, (3, 5), 1, (2, 6))
    for straggler in found:
        assert straggler.slowdown == pytest.approx(0.5)
        assert _units(straggler) == pytest.approx(2 * 50 / COUNTED)
    assert [e.duration // SCALE for e in stalls.evidence[:2]] == [70, 70]
    assert {e.expected // SCALE for e in (*slow.evidence, *stalls.evidence)} == {20}


def test_of_two_that_are_late_together_only_the_later_costs_anything(tmp_path: Path) -> None:
    """Ranks 0 and 1 are 50 and 30 late in step 3. Without rank 0's delay the step takes 150, not
    170; without rank 1's it takes 170 still.
    """
    more = {(3, 0): More(work=50), (3, 1): More(work=30)}
    found = _only(_stragglers(tmp_path, Toy(more=more)))
    assert (found.rank, found.steps) == (0, (3,))
    assert _units(found) == pytest.approx(20 / COUNTED)


def test_a_step_that_is_slow_for_all_makes_none_of_them_a_straggler(tmp_path: Path) -> None:
    more = {(step, rank): More(work=50) for step in (3, 5) for rank in range(3)}
    assert _stragglers(tmp_path, Toy(more=more)).found == ()


def test_a_link_that_is_slower_than_those_of_the_other_pairs(tmp_path: Path) -> None:
    """Messages take 4; from rank 2 to rank 3 they take 24. The step is 20 longer for all."""
    toy = Toy(ranks=6, pairs=True, slow_link={1: 20})
    found = _only(_stragglers(tmp_path, toy))
    assert (found.cause, found.src, found.rank) == ("slow link", 2, 3)
    assert found.slowdown == pytest.approx(24 / MESSAGE - 1)
    assert _units(found) == pytest.approx(20)
    step = STEP + WORK + MESSAGE + 20
    assert found.share == pytest.approx(20 / step)
    worst = found.evidence[0]
    assert (worst.start, worst.duration) == ((step + LOAD + WORK) * SCALE, 24 * SCALE)
    assert worst.expected == MESSAGE * SCALE


def test_too_few_steps_tell_nothing(tmp_path: Path) -> None:
    found = _stragglers(tmp_path, Toy(steps=4, more=in_steps(ALL, 1, More(work=50))))
    assert len(found.steps) == 3
    assert found.found == ()


def test_the_longest_pieces_are_cut_to_one_length() -> None:
    assert clipped(np.array([1, 9, 2]), 7).tolist() == [1, 4, 2]
    assert clipped(np.array([5, 5]), 0).tolist() == [0, 0]
    assert clipped(np.array([3, 8]), 100).tolist() == [3, 8]


@settings(max_examples=30, deadline=None)
@given(
    more=st.dictionaries(
        st.tuples(st.integers(0, 7), st.integers(0, 3)),
        st.builds(
            More,
            load=st.integers(0, 60),
            work=st.integers(-50, 80),
            stall=st.integers(0, 60),
            garbage=st.integers(0, 40),
            gap=st.integers(0, 60),
        ),
        max_size=12,
    ),
    pairs=st.booleans(),
    parts=st.integers(1, 5),
    slow_link=st.dictionaries(st.integers(0, 1), st.integers(0, 60)),
)
def test_no_straggler_costs_less_than_nothing_or_more_than_the_step(
    tmp_path_factory: pytest.TempPathFactory,
    more: dict[tuple[int, int], More],
    pairs: bool,
    parts: int,
    slow_link: dict[int, int],
) -> None:
    toy = Toy(ranks=4, more=more, pairs=pairs, parts=parts, slow_link=slow_link)
    found = _stragglers(tmp_path_factory.mktemp("toy"), toy)
    assert found.replay_error == 0
    for straggler in found.found:
        assert 0 < straggler.ms_per_step * 1e6 <= found.step_ns
        assert straggler.evidence
        assert set(straggler.steps) <= set(found.steps)


@settings(max_examples=20, deadline=None)
@given(
    noise=st.lists(st.integers(0, 2), min_size=32, max_size=32),
)
def test_noise_of_two_per_cent_is_no_straggler(
    tmp_path_factory: pytest.TempPathFactory, noise: list[int]
) -> None:
    more = {(at // 4, at % 4): More(work=ns) for at, ns in enumerate(noise)}
    toy = Toy(ranks=4, more=more)
    assert _stragglers(tmp_path_factory.mktemp("toy"), toy).found == ()


@pytest.mark.parametrize("sample", ["pp4-1f1b-balanced", "pp4-gpipe", "pp2-tp2-1f1b"])
def test_nothing_is_found_in_recorded_runs_without_stragglers(sample: str) -> None:
    assert find_stragglers(open_run(Path("sample_traces") / sample)).found == ()


def test_the_slow_stage_of_a_recorded_run_is_found() -> None:
    found = _only(find_stragglers(open_run("sample_traces/pp4-1f1b-slow-stage")))
    assert (found.cause, found.stage, found.confidence) == ("slow stage", 2, "high")
    assert found.slowdown == pytest.approx(0.5, abs=0.1)


@given(st.integers(2, 9), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_median_of_the_others_is_that_without_the_row(rows: int, columns: int, random) -> None:
    values = np.array([[random.randint(0, 5) for _ in range(columns)] for _ in range(rows)], float)
    values = values.reshape(rows, columns)
    expected = [np.median(np.delete(values, row, axis=0), axis=0) for row in range(rows)]
    np.testing.assert_array_equal(medians_of_other_rows(values), np.array(expected))
