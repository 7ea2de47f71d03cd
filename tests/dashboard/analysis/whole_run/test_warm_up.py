"""Whether the first step bends the means: on paper, by property, and on a recorded run."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import Run, open_run
from dashboard.analysis.whole_run.summary import step_times
from dashboard.analysis.whole_run.warm_up import FEWEST_OTHERS, NOTICED, WarmUp, warm_up
from tests.support.toy import Event, write_run

SAMPLES = Path(__file__).parents[4] / "sample_traces"


def steps_of_length(path: Path, lengths: list[int], *, first: int = 0) -> Run:
    """One rank, one step window after the other, µs."""
    begins = [sum(lengths[:place]) for place in range(len(lengths))]
    rows = [
        Event(start=begin, duration=length, kind="step", name="step", step=first + place)
        for place, (begin, length) in enumerate(zip(begins, lengths, strict=True))
    ]
    return open_run(write_run(path, {0: rows}, scale=1000))


def asked(run: Run, steps: range | None = None) -> WarmUp | None:
    times = step_times(run.accounting(steps))
    return warm_up(run, times["step"].to_pylist(), times["median_ns"].to_pylist())


def test_a_first_step_of_three_times_the_others_is_named_with_what_it_does(tmp_path: Path) -> None:
    """300, 100, 100, 110, 90: a mean of 140, and of 100 without the first."""
    run = steps_of_length(tmp_path / "run", [300, 100, 100, 110, 90], first=4)
    found = asked(run)
    assert found is not None
    assert (found.step, found.next_step) == (4, 5)
    assert (found.step_ns, found.usual_ns) == (300_000, 100_000)
    assert found.lengthens == pytest.approx(0.4)
    assert str(found) == (
        "Step 4, the run's first, took 0.3 ms, the median of the others is 0.1 ms: with it the "
        "mean step is 40 % longer"
    )
    assert asked(run, range(5, 9)) is None, "left out already"


@pytest.mark.parametrize("lengths", [[100] * 5, [50, 100, 100, 100], [300, 100, 100], [300], []])
def test_where_nothing_is_to_be_said_nothing_is(tmp_path: Path, lengths: list[int]) -> None:
    assert asked(steps_of_length(tmp_path / "run", lengths)) is None


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lengths=st.lists(st.integers(1, 1000), min_size=1, max_size=9))
def test_it_is_said_exactly_where_the_mean_is_longer_with_it(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    found = asked(steps_of_length(tmp_path_factory.mktemp("run"), lengths))
    if len(lengths) <= FEWEST_OTHERS:
        assert found is None
        return
    longer = fmean(lengths) / fmean(lengths[1:]) - 1
    assert (found is not None) == (longer >= NOTICED)
    assert found is None or found.lengthens == pytest.approx(longer)


def test_of_a_recorded_run_the_mean_without_its_first_step_is_shorter_by_what_is_said() -> None:
    run = open_run(SAMPLES / "pp2-tp2-1f1b")
    found = asked(run)
    assert found is not None
    whole, rest = (
        fmean(step_times(run.accounting(steps))["median_ns"].to_pylist())
        for steps in (run.steps, run.steps[1:])
    )
    assert whole == pytest.approx(rest * (1 + found.lengthens))
    assert asked(run, range(1, 16)) is None
