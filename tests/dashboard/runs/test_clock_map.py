"""Fitting clocks to comparisons: examples to check on paper, and bounds that must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.runs.clock_map import ClockMap, Samples, chained, fit, identity

S = 1_000_000_000


def _samples(rows: list[tuple[int, int, int]]) -> Samples:
    times, offsets, errors = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Samples(times=times, offsets=offsets, errors=errors)


def test_two_comparisons_are_laid_through_by_a_line() -> None:
    # 1,000 ns ahead at 10 s, 3,000 ns at 20 s: 200 ns per second.
    clock = fit(_samples([(10 * S, 1000, 10), (20 * S, 3000, 10)]), 10 * S, 20 * S)
    raw = np.array([10 * S, 15 * S, 20 * S])

    assert clock.to_common(raw) - raw == pytest.approx([1000, 2000, 3000], abs=1)
    # Halfway the errors of both count half, and the clock may have wandered for 5 s: 2,500 ns.
    assert clock.bound_at(raw) == pytest.approx([10, 10 + 2500, 10], rel=0.01)


def test_one_comparison_gives_an_offset_and_a_bound_that_grows_with_the_drift() -> None:
    clock = fit(_samples([(10 * S, -500, 20)]), 9 * S, 12 * S)
    raw = np.array([10 * S, 12 * S])

    assert (clock.to_common(raw) - raw).tolist() == [-500, -500]
    # 100 ppm of drift are 200 µs in 2 s, and 1 µs of wandering.
    assert clock.bound_at(raw) == pytest.approx([20, 201_020], rel=0.01)


def test_a_poor_comparison_hardly_counts() -> None:
    rows = [(i * S, 100, 10) for i in range(10)]
    clock = fit(_samples([*rows, (10 * S, 90_000, 100_000)]), 0, 10 * S)
    raw = np.arange(10) * S

    assert clock.to_common(raw) - raw == pytest.approx([100] * 10, abs=15)


def test_a_clock_that_jumps_is_not_trusted() -> None:
    """Comparisons that contradict a line widen the bound until it holds for all of them."""
    rows = [(i * S, 0 if i < 5 else 1_000_000, 100) for i in range(10)]
    clock = fit(_samples(rows), 0, 9 * S)
    raw = np.array([row[0] for row in rows])
    off = np.abs(clock.to_common(raw) - raw - np.array([row[1] for row in rows]))

    assert clock.bound_ns > 400_000
    assert (off <= clock.bound_at(raw) + 101).all()


def test_a_drift_that_changes_is_followed() -> None:
    """Half an hour warm, half an hour cold: 20 ppm and then 21. One line would be 450 µs off."""
    rows = []
    for i in range(120):
        t = i * 30
        truth = t * 20_000 if t < 1800 else 1800 * 20_000 + (t - 1800) * 21_000
        rows.append((t * S, truth, 5000))
    clock = fit(_samples(rows), 0, 3570 * S)
    raw = np.array([row[0] for row in rows])
    off = np.abs(clock.to_common(raw) - raw - np.array([row[1] for row in rows]))

    assert off.max() < 30_000
    assert (off <= clock.bound_at(raw)).all()


@settings(max_examples=60, deadline=None)
@given(
    drift=st.floats(-90e-6, 90e-6),
    offset=st.integers(-(10**12), 10**12),
    length=st.integers(1, 4000),
    errors=st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 200_000), st.floats(-1, 1)),
        min_size=1,
        max_size=40,
    ),
)
def test_no_error_is_beyond_the_bound(
    drift: float, offset: int, length: int, errors: list[tuple[float, int, float]]
) -> None:
    """Comparisons anywhere, each off by anything within its own bound."""
    rows = []
    for place, error, share in errors:
        t = round(place * length * S)
        truth = offset + t * drift
        rows.append((t, round(truth + share * (error - 1)), error))
    clock = fit(_samples(rows), 0, length * S)
    raw = np.linspace(0, length * S, 50).astype(np.int64)
    off = np.abs((clock.to_common(raw) - raw) - (offset + raw * drift))

    assert (off <= clock.bound_at(raw) + 3).all()


def test_order_and_equality_of_times_survive() -> None:
    clock = fit(_samples([(0, 0, 10), (100 * S, -9_000_000, 10), (200 * S, 0, 10)]), 0, 200 * S)
    raw = np.sort(np.random.default_rng(1).integers(0, 200 * S, 1000))
    moved = clock.to_common(np.concatenate([raw, raw]))

    assert (np.diff(moved[:1000]) >= 0).all()
    assert (moved[:1000] == moved[1000:]).all()


def test_maps_in_a_row_add_offsets_and_bounds() -> None:
    def constant(ahead: int, bound: int) -> ClockMap:
        return fit(_samples([(0, ahead, bound), (10 * S, ahead, bound)]), 0, 10 * S)

    clock = chained(constant(500, 10), constant(-200, 20))
    raw = np.array([0, 10 * S])

    assert (clock.to_common(raw) - raw).tolist() == [300, 300]
    assert clock.bound_at(raw) == pytest.approx([30, 30], abs=1)
    assert chained(clock, identity()).to_common(raw).tolist() == clock.to_common(raw).tolist()
