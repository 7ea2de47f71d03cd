"""Units for people: one unit per axis, chosen by the largest value, and values as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

NO_BREAK: Final = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, which belong on one line."""


class Unit(NamedTuple):
    """A unit: its label, and how many of the base unit (ns, GB/s, bytes) it is."""

    label: str
    size: float

    def of(self, values: Iterable[float | None]) -> list[float | None]:
        """The values, given in the base unit, in this unit."""
        return [None if value is None else value / self.size for value in values]


_TIME: Final = (Unit("s", 1e9), Unit("ms", 1e6), Unit("µs", 1e3), Unit("ns", 1.0))
_RATE: Final = (Unit("GB/s", 1.0), Unit("MB/s", 1e-3), Unit("kB/s", 1e-6), Unit("B/s", 1e-9))
_BYTES: Final = (
    Unit("TB", 1e12), Unit("GB", 1e9), Unit("MB", 1e6), Unit("kB", 1e3), Unit("B", 1.0)
)  # fmt: skip
_SECONDS_FROM_NS: Final = 4e9
"""Steps of one or two seconds are still read in ms, as their parts are."""


def time_unit(values: Iterable[float | None]) -> Unit:
    """The unit for times given in ns."""
    largest = _largest(values)
    return _fitting(_TIME if largest >= _SECONDS_FROM_NS else _TIME[1:], largest)


def rate_unit(values: Iterable[float | None]) -> Unit:
    """The unit for bandwidths given in GB/s."""
    return _fitting(_RATE, _largest(values))


def byte_unit(values: Iterable[float | None]) -> Unit:
    """The unit for sizes given in bytes; decimal, as in GB/s."""
    largest = _largest(values)
    return _fitting(_BYTES, largest) if largest else _BYTES[-1]


def time_text(ns: float | None) -> str:
    """12_345_678 → `12.3 ms`; None → `–`."""
    return _text(ns, time_unit([ns]))


def rate_text(gbps: float | None) -> str:
    """0.0123 → `12.3 MB/s`; None → `–`."""
    return _text(gbps, rate_unit([gbps]))


def byte_text(size: float | None) -> str:
    """16_384 → `16.4 kB`; None → `–`."""
    return _text(size, byte_unit([size]))


def percent_text(share: float | None) -> str:
    """0.1234 → `12.3 %`; None → `–`."""
    return "–" if share is None else f"{100 * share:.1f}{NO_BREAK}%"


def _largest(values: Iterable[float | None]) -> float:
    return max((abs(value) for value in values if value is not None), default=0.0)


def _fitting(units: tuple[Unit, ...], largest: float) -> Unit:
    """The largest unit of which there is at least one; the largest of all for 0."""
    if largest == 0:
        return units[0]
    return next((unit for unit in units if largest >= unit.size), units[-1])


def _text(value: float | None, unit: Unit) -> str:
    if value is None:
        return "–"
    shown = value / unit.size
    digits = 0 if abs(shown) >= 100 else 1
    number = f"{shown:,.{digits}f}" if abs(shown) >= 10 else f"{shown:.3g}"
    return number + NO_BREAK + unit.label
