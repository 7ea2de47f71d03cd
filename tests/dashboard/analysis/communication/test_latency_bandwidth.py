"""Latency and bandwidth on paper, recovered from exact and from disturbed times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.analysis.communication.bandwidth import BUS_FACTORS
from dashboard.analysis.communication.latency_bandwidth import (
    MOST_SIZES,
    Line,
    best_line,
    fit_lines,
)
from tests.support.launching import ROOT
from tests.support.transfers import transfers

SAMPLES = sorted(path.parent for path in (ROOT / "sample_traces").glob("*/run.json"))


def fitted(times: list[tuple[int, int]], **row: object) -> Line:
    (line,) = fit_lines(transfers([{"bytes": s, "transfer_ns": t, **row} for s, t in times]))
    return line


def test_messages_on_paper() -> None:
    # 100 B take 30 ns, 1,000 B take 120: 900 B more take 90 ns more, so 10 GB/s, and 20 ns before.
    line = fitted([(100, 30), (100, 30), (100, 900), (1000, 120), (1000, 120)])
    assert (line.alpha_ns, line.beta_gbps) == (pytest.approx(20), pytest.approx(10))
    assert (line.count, line.sizes, line.low_bytes, line.high_bytes) == (5, 2, 100, 1000)
    assert line.error == pytest.approx(0)
    assert line.predict_ns(500) == pytest.approx(70)


def test_beta_is_a_bus_bandwidth() -> None:
    # An all_reduce of 4 ranks: 1.5 bytes on the bus per byte. 800 B more take 120 ns more.
    line = fitted([(200, 80), (1000, 200)], op="all_reduce", n=4, group="tp:0-3", dim="tp")
    assert line.beta_gbps == pytest.approx(800 * 1.5 / 120)
    assert line.alpha_ns == pytest.approx(50)
    # 1,000 B over 2 ranks are 1,000 on the bus: 50 + 100.
    assert line.predict_ns(1000, n=2) == pytest.approx(150)


def test_one_size_does_not_tell_them_apart() -> None:
    line = fitted([(100, 30), (100, 40), (100, 50)])
    assert (line.alpha_ns, line.beta_gbps, line.error) == (None, None, None)
    assert line.median_ns == 40
    assert "one message size" in line.why
    assert line.predict_ns(100) == 40
    assert line.predict_ns(200) is None
    assert line.predict_ns(100, n=8) is None


def test_sizes_that_are_close_do_not_tell_them_apart() -> None:
    line = fitted([(100, 30), (150, 31)])
    assert line.alpha_ns is None
    assert "too close" in line.why


def test_times_that_do_not_grow_are_latency() -> None:
    line = fitted([(8, 50), (80, 50), (800, 40)])
    assert (line.alpha_ns, line.beta_gbps) == (50, None)
    assert line.predict_ns(10_000) == 50
    assert "does not grow" in line.why


def test_latency_is_never_negative() -> None:
    # The line through both would begin at -80. Without latency, the one through the first is off
    # by 80 of 120 at the second; the one through the second by 40 of 20 at the first.
    line = fitted([(100, 20), (200, 120)])
    assert line.alpha_ns == 0
    assert line.beta_gbps == pytest.approx(100 / 20)
    assert line.error == pytest.approx((0 + 80 / 120) / 2)


def test_one_size_that_is_disturbed_throughout_moves_nothing() -> None:
    times = [(10**k, round(50 + 10**k / 10)) for k in range(1, 7)]
    times[3] = (times[3][0], times[3][1] * 5)
    line = fitted(times)
    assert line.alpha_ns == pytest.approx(50, rel=0.05)
    assert line.beta_gbps == pytest.approx(10, rel=0.01)


def test_what_nobody_waited_for_tells_nothing() -> None:
    rows = [{"bytes": s, "transfer_ns": t} for s, t in ((100, 30), (1000, 120))]
    late = {"bytes": 100, "transfer_ns": 9000, "unwatched_ns": 8990}
    (line,) = fit_lines(transfers([*rows, late, late, late]))
    assert line.alpha_ns == pytest.approx(20)
    assert (line.count, line.left_out) == (2, 3)


def test_sizes_that_are_rare_do_not_count() -> None:
    # 21 messages of 1,000 B and one of 8 B when the pipeline was set up.
    line = fitted([(1000, 120)] * 21 + [(8, 4000)])
    assert (line.alpha_ns, line.median_ns, line.sizes, line.left_out) == (None, 120, 1, 1)
    line = fitted([(1000, 120)] * 20 + [(8, 20)])
    assert (line.sizes, line.left_out) == (2, 0)


def test_many_sizes_are_joined() -> None:
    times = [(size, 1000 + size) for size in range(1000, 9000, 7)]
    line = fitted(times)
    assert line.sizes == MOST_SIZES
    assert line.alpha_ns == pytest.approx(1000, rel=0.01)
    assert line.beta_gbps == pytest.approx(1, rel=0.01)


@given(
    alpha=st.integers(0, 10**6),
    beta=st.integers(1, 1000),
    sizes=st.lists(st.integers(1, 2**20), min_size=2, max_size=12, unique=True),
    op=st.sampled_from(sorted(BUS_FACTORS)),
    n=st.integers(2, 64),
    slower=st.lists(st.floats(1.5, 100), min_size=12, max_size=12),
)
def test_the_line_is_recovered(
    alpha: int, beta: int, sizes: list[int], op: str, n: int, slower: list[float]
) -> None:
    """Two of five operations of each size are disturbed, and it is still exact."""
    # In steps of beta bytes, so that times are whole ns but for the factor, which is put into S.
    rows = []
    for size, factor in zip(sizes, slower, strict=False):
        exact = alpha + size * 1000
        times = [exact, exact, exact, round(exact * factor), round(exact * factor)]
        rows += [{"bytes": size * beta * n, "transfer_ns": t, "op": op, "n": n} for t in times]
    (line,) = fit_lines(transfers(rows))
    if line.alpha_ns is None:
        assert max(sizes) < 2 * min(sizes)
        return
    assert line.alpha_ns == pytest.approx(alpha, rel=1e-6, abs=1e-3)
    assert line.beta_gbps == pytest.approx(beta * n * BUS_FACTORS[op](n) / 1000, rel=1e-6)
    assert line.error == pytest.approx(0, abs=1e-9)


@given(
    st.lists(
        st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)),
        min_size=2,
        max_size=10,
        unique_by=lambda point: point[0],
    ),
    st.floats(0, 1e9),
    st.floats(0, 1e3),
)
def test_no_other_line_is_better(points: list[tuple[int, int]], alpha: float, slope: float) -> None:
    size, time = (np.array(column, np.float64) for column in zip(*sorted(points), strict=True))

    def deviation(alpha: float, slope: float) -> float:
        return float(np.abs((alpha + slope * size) / time - 1).sum())

    found = best_line(size, time)
    assert min(found) >= 0
    assert deviation(*found) <= deviation(alpha, slope) + 1e-9


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_of_recorded_runs(sample: Path) -> None:
    run = open_run(sample)
    lines = fit_lines(run.bandwidth().operations)
    assert lines
    for line in lines:
        assert 0 < line.count <= line.count + line.left_out
        predicted = line.predict_ns(line.high_bytes)
        assert predicted is None or predicted > 0
