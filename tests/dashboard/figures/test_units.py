"""Values as people read them: a unit that fits, about three digits, no line break before it."""

from __future__ import annotations

import pytest

from dashboard.figures.units import (
    NO_BREAK,
    byte_text,
    byte_unit,
    percent_text,
    rate_text,
    rate_unit,
    time_text,
    time_unit,
)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ms"),
        (7, "7 ns"),
        (1_500, "1.5 µs"),
        (12_345_678, "12.3 ms"),
        (470_967_721, "471 ms"),
        (1_311_300_000, "1,311 ms"),
        (75e9, "75.0 s"),
        (None, "–"),
    ],
)
def test_times(ns: float | None, text: str) -> None:
    assert time_text(ns).replace(NO_BREAK, " ") == text


@pytest.mark.parametrize(
    ("gbps", "text"),
    [(450.0, "450 GB/s"), (0.0123, "12.3 MB/s"), (2.5e-6, "2.5 kB/s"), (None, "–")],
)
def test_rates(gbps: float | None, text: str) -> None:
    assert rate_text(gbps).replace(NO_BREAK, " ") == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (4, "4 B"), (16_384, "16.4 kB"), (1 << 20, "1.05 MB"), (None, "–")],
)
def test_sizes_are_decimal(size: float | None, text: str) -> None:
    assert byte_text(size).replace(NO_BREAK, " ") == text


def test_shares() -> None:
    assert percent_text(0.1234) == f"12.3{NO_BREAK}%"
    assert percent_text(None) == "–"


def test_an_axis_has_one_unit_that_fits_its_largest_value() -> None:
    unit = time_unit([1_000, None, 2_500_000])
    assert (unit.label, unit.of([1_000, None, 2_500_000])) == ("ms", [0.001, None, 2.5])
    assert rate_unit([0.5, 0.02]).label == "MB/s"
    assert byte_unit([]).label == "B"
