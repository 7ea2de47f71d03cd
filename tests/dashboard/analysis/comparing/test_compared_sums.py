"""Sums by stratum and step: on paper, against rows of the accounting, and in recorded runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.analysis.comparing import compared_sums
from dashboard.analysis.comparing.compare import step_samples
from dashboard.analysis.comparing.compared_sums import SumIn, strata
from dashboard.analysis.comparing.corresponding_ranks import match
from dashboard.analysis.comparing.questions import questions
from dashboard.analysis.comparing.trend import trend
from dashboard.analysis.sums_by_step import SumsByStep
from dashboard.analysis.time_spent.claims import CATEGORIES
from dashboard.analysis.time_spent.time_by_operation import OTHERWISE, time_by_operation
from tests.dashboard.analysis.comparing.test_compare import plain_run
from tests.support.any_events import any_events
from tests.support.toy import Event, RankFacts, write_run
from tests.test_repo.markdown import ROOT

SAMPLES = ROOT / "sample_traces"


def cells(found: SumsByStep, *places: int) -> Counter[tuple[object, ...]]:
    """By step and these parts of the keys, without what is 0."""
    told: Counter[tuple[object, ...]] = Counter()
    for key, row in zip(found.keys, found.values.tolist(), strict=True):
        for step, value in zip(found.steps.tolist(), row, strict=True):
            told[step, *(key[place] for place in places)] += value
    return +told


def test_three_ranks_in_two_strata_on_paper(tmp_path: Path) -> None:
    """Two steps of 100; ranks 0 and 2 weigh ¼ and work 10, 20 and 30, 40; rank 1 weighs ½ and works
    50, 60. What is left is idle.
    """
    work = {0: (10, 20), 1: (50, 60), 2: (30, 40)}
    rows = {
        rank: [
            event
            for step, length in enumerate(lengths)
            for event in (
                Event(start=100 * step, duration=100, kind="step", step=step),
                Event(start=100 * step, duration=length, kind="forward", name="F", step=step),
            )
        ]
        for rank, lengths in work.items()
    }
    facts = {rank: RankFacts(coordinates={"pp": rank}, stages=(rank,)) for rank in work}
    run = open_run(write_run(tmp_path / "run", rows, facts=facts))
    weights = {0: 0.25, 1: 0.5, 2: 0.25}
    sums = strata(run.ranks, [weights])
    assert sums == SumIn(((0, 0), (1, 1), (2, 0)))
    assert sums.weights(weights) == {0: 0.25, 1: 0.5}
    assert sums.among([1, 2]) == SumIn(((1, 1), (2, 0)))
    time = run.answer(sums).time
    assert dict(zip(time.keys, time.values.tolist(), strict=True)) == {
        (0, "compute", "forward", "F", 0): [10, 20],
        (0, "compute", "forward", "F", 2): [30, 40],
        (1, "compute", "forward", "F", 1): [50, 60],
        (0, "idle", "", OTHERWISE, 0): [90, 80],
        (0, "idle", "", OTHERWISE, 2): [70, 60],
        (1, "idle", "", OTHERWISE, 1): [50, 40],
    }
    assert cells(time, 0, 1)[1, 0, "compute"] == 60
    assert step_samples(run, (0, 1)) == pytest.approx(np.full((2, 1), 1e-4))


def test_strata_are_told_apart_by_every_comparison() -> None:
    ranks = range(5)
    whole = dict.fromkeys(ranks, 0.2)
    some = {1: 0.5, 3: 0.5}
    assert strata(ranks, []).strata == strata(ranks, [whole]).strata
    assert [number for _, number in strata(ranks, [whole, some]).strata] == [0, 1, 0, 1, 0]
    ends = {0: 0.3, 1: 0.2, 2: 0.2, 3: 0.2, 4: 0.1}
    assert [number for _, number in strata(ranks, [ends, some]).strata] == [0, 1, 2, 1, 3]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(any_events(), min_size=3, max_size=3), st.sampled_from(["000", "011", "012"]))
def test_sums_of_any_events_are_those_of_the_rows_and_close_to_the_windows(
    tmp_path_factory: pytest.TempPathFactory, events: list[list[Event]], numbers: str
) -> None:
    run = open_run(write_run(tmp_path_factory.mktemp("any") / "run", dict(enumerate(events))))
    assert_closes(run, SumIn(tuple((rank, int(numbers[rank])) for rank in run.ranks)))


def assert_closes(run: Run, sums: SumIn) -> None:
    number = dict(sums.strata)
    accounting = run.accounting()
    rows: Counter[tuple[object, ...]] = Counter()
    for row in accounting.table.to_pylist():
        rows[row["step"], number[row["rank"]], row["category"]] += row["duration"]
    windows: Counter[tuple[object, ...]] = Counter()
    for row in accounting.windows.to_pylist():
        windows[row["step"], number[row["rank"]]] += row["duration"]
    time = run.answer(sums).time
    assert cells(time, 0, 1) == +rows
    assert cells(time, 0) == windows


@pytest.mark.parametrize("other", ["pp4-1f1b-slow-stage", "pp2-tp2-1f1b"])
def test_recorded_runs_have_the_means_of_their_rows(other: str) -> None:
    """The means of a comparison, once more from a row for each rank, step and category."""
    a, b = open_run(SAMPLES / "pp4-gpipe"), open_run(SAMPLES / other)
    found = a.compare(b)
    matching = match(a, b)
    asked = questions((a, b))
    assert_closes(a, asked[a].sums)
    assert_closes(b, asked[b].sums)
    shown = {row["category"]: row for row in found.categories.to_pylist()}
    for run, side, weights, steps in (
        (a, "a_ms", matching.a, found.steps_a),
        (b, "b_ms", matching.b, found.steps_b),
    ):
        means: Counter[str] = Counter()
        for row in run.accounting(steps).table.to_pylist():
            means[row["category"]] += weights[row["rank"]] * row["duration"] / 1e6 / len(steps)
        assert {name: shown[name][side] for name in CATEGORIES} == pytest.approx(
            {name: means[name] for name in CATEGORIES}, rel=1e-12
        )


def test_several_comparisons_look_through_each_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of other lengths, another world size and a repeat: other steps and weights for each."""
    looked: list[tuple[str, int]] = []
    real = time_by_operation

    def counted(run: Run, rank: int, steps: list[int]) -> SumsByStep:
        looked.append((run.name, rank))
        return real(run, rank, steps)

    monkeypatch.setattr(compared_sums, "time_by_operation", counted)
    lengths = {"a": 6, "b": 4, "c": 5, "again": 3}
    runs = {
        name: plain_run(tmp_path / name, [900, *[100] * n], compute_us=60, ranks=1 + (name == "c"))
        for name, n in lengths.items()
    }
    repeats = [runs.pop("again"), plain_run(tmp_path / "more", [900, 100, 120], compute_us=60)]
    found = trend([*runs.values()], repeats=repeats)
    assert [(len(c.steps_a), len(c.steps_b)) for c in found.comparisons] == [(4, 4), (5, 5)]
    assert found.table["steps"].to_pylist() == [6, 4, 5]
    assert sorted(looked) == [
        ("a", 0), ("again", 0), ("b", 0), ("c", 0), ("c", 1), ("more", 0)
    ]  # fmt: skip


def test_a_repeat_without_a_step_of_a_is_asked_for_all_of_its_own(tmp_path: Path) -> None:
    """A has steps 0 to 5, the repeats 8 to 11 and 4 to 7, all of 100 us; a run's first is warm-up,
    which counts where A has it as well.
    """
    a, b = (plain_run(tmp_path / name, [100] * 6, compute_us=60) for name in "ab")
    again = []
    for first in (8, 4):
        steps = [Event(start=100 * n, duration=100, kind="step", step=first + n) for n in range(4)]
        again.append(open_run(write_run(tmp_path / str(first), {0: steps}, scale=1000)))
    asked = questions((a, b), repeats=again)
    assert asked[a].steps == asked[b].steps == (1, 2, 3, 4, 5)
    assert [asked[run].steps for run in again] == [(9, 10, 11), (4, 5)]
    (found,) = trend([a, b], repeats=again).comparisons
    assert found.categories["a_ms"][0].as_py() == pytest.approx(0.1)


def test_a_rank_that_one_run_lacks_counts_for_the_run_alone(tmp_path: Path) -> None:
    rows = {
        rank: [
            Event(start=100 * step, duration=100 - 10 * rank, kind="step", step=step)
            for step in range(4)
        ]
        for rank in (0, 1, 2)
    }
    facts = {rank: RankFacts(coordinates={"dp": rank}) for rank in (0, 1, 2)}
    whole = open_run(write_run(tmp_path / "whole", rows, facts=facts))
    path = write_run(tmp_path / "damaged", rows, facts=facts)
    (path / "rank-00001.arrows").unlink()
    found = trend([whole, open_run(path)])
    # All three take 90 in the mean; the ranks 0 and 2 that are in both also take (100 + 80) / 2.
    assert found.table["step_ms"].to_pylist() == pytest.approx([9e-5, 9e-5])
    assert found.comparisons[0].categories["a_ms"][0].as_py() == pytest.approx(9e-5)
    assert np.unique([number for _, number in questions([whole, open_run(path)])[whole].sums.strata]
    ).tolist() == [0, 1]  # fmt: skip
