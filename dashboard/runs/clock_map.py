"""`ClockMap`: from one rank's raw times to the common clock, and how far off that may be.

Fitted to comparisons of two clocks: piecewise linear, so offset and drift, with a bound of the
error for every instant that follows from the bounds of the comparisons (docs/concepts.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dashboard.runs.columns import distinct

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PIECE_S: Final = 120.0
"""The drift of a clock is fitted anew after so many seconds: temperature changes it slowly."""

_MOST_PIECES: Final = 400
MOST_DRIFT: Final = 100e-6
"""Two clocks drift apart by no more than this; quartz is specified to ± 50 ppm."""

WANDER: Final = 0.5e-6
"""How fast a drift may differ from the fitted one between two comparisons. If the comparisons
themselves differ by more, the bound grows by what they show."""

_MOST_WANDER: Final = 5e-6
"""How far the drifts of neighbouring pieces may be apart without evidence."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Samples:
    """Comparisons: at `times` the other clock was `offsets` ahead, give or take `errors` (ns)."""

    times: Ints
    offsets: Ints
    errors: Ints

    def __len__(self) -> int:
        return len(self.times)


@dataclass(kw_only=True, slots=True, frozen=True)
class ClockMap:
    """What to add to raw times, linear between `times` (ns, ascending); `bounds` likewise."""

    times: Floats
    offsets: Floats
    bounds: Floats

    def to_common(self, raw: Ints) -> Ints:
        """Raw times on the common clock; order and equality are kept."""
        if len(self.times) == 1:
            return raw + int(self.offsets[0])
        return raw + np.rint(_line(raw.astype(np.float64), self.times, self.offsets)).astype(
            np.int64
        )

    def bound_at(self, raw: Ints) -> Floats:
        """The most by which `to_common` may be off there, in ns."""
        return np.interp(raw.astype(np.float64), self.times, self.bounds)

    @property
    def bound_ns(self) -> int:
        """The most by which any time of the recording may be off."""
        return int(np.ceil(self.bounds.max()))


def identity() -> ClockMap:
    """The map of a clock that is the common one."""
    return ClockMap(times=np.zeros(1), offsets=np.zeros(1), bounds=np.zeros(1))


def fit(samples: Samples, begin: int, end: int) -> ClockMap:
    """The other clock as a function of this one, from `begin` to `end` (raw ns, of the events).

    Weighted least squares over hat functions with a knot every `PIECE_S`. Two weak assumptions
    stand in where comparisons are missing: no drift beyond `MOST_DRIFT`, no change of drift
    beyond `_MOST_WANDER` from piece to piece. At a comparison the error is at most that one's
    bound plus how far the fit passes by it; between two, in proportion, and `WANDER` added;
    outside, what the drift may be off besides.
    """
    order = np.argsort(samples.times, kind="stable")
    times = samples.times[order].astype(np.float64)
    origin = samples.offsets[order][0]
    offsets = (samples.offsets[order] - origin).astype(np.float64)
    errors = np.maximum(samples.errors[order], 1).astype(np.float64)
    times, first = np.unique(times, return_index=True)
    offsets, errors = offsets[first], errors[first]

    seconds = (times - times[0]) / 1e9
    knots = _knots(seconds)
    drifts, changes = _drifts(knots), np.diff(_drifts(knots), axis=0)
    rows = np.concatenate([_hats(seconds, knots), drifts, changes])
    said = np.concatenate([offsets, np.zeros(len(drifts) + len(changes))])
    weak = [len(drifts) * [MOST_DRIFT * 1e9], len(changes) * [_MOST_WANDER * 1e9]]
    weighted = rows / np.concatenate([errors, *weak])[:, None] ** 2
    values = np.linalg.solve(rows.T @ weighted, weighted.T @ said)

    fitted = _hats(seconds, knots) @ values
    good = _worth_keeping(times, errors, np.abs(offsets - fitted))
    bounds = errors + np.abs(offsets - fitted)
    return _with_ends(
        ClockMap(times=times[good], offsets=fitted[good] + float(origin), bounds=bounds[good]),
        float(begin),
        float(end),
    )


def chained(first: ClockMap, then: ClockMap) -> ClockMap:
    """`first` leads to a clock from which `then` leads on; bounds add up."""
    arrived = first.times + first.offsets
    back = then.times - np.interp(then.times, arrived, first.offsets)
    inside = back[(back > first.times[0]) & (back < first.times[-1])]
    times = distinct(np.concatenate([first.times, inside]))
    offsets = _line(times, first.times, first.offsets)
    return ClockMap(
        times=times,
        offsets=offsets + _line(times + offsets, then.times, then.offsets),
        bounds=np.interp(times, first.times, first.bounds)
        + np.interp(times + offsets, then.times, then.bounds),
    )


def _knots(seconds: Floats) -> Floats:
    span = max(float(seconds[-1] - seconds[0]), 1e-3)
    pieces = min(max(int(span // PIECE_S), 1), _MOST_PIECES)
    return np.linspace(0, span, pieces + 1)


def _hats(at: Floats, knots: Floats) -> Floats:
    """One row per time: the weights of the knots around it; outside, the line goes on."""
    piece = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    share = (at - knots[piece]) / (knots[piece + 1] - knots[piece])
    rows = np.zeros((len(at), len(knots)))
    rows[np.arange(len(at)), piece] = 1 - share
    rows[np.arange(len(at)), piece + 1] = share
    return rows


def _drifts(knots: Floats) -> Floats:
    """One row per piece: its drift, in ns per second."""
    lengths = np.diff(knots)
    rows = np.zeros((len(lengths), len(knots)))
    piece = np.arange(len(lengths))
    rows[piece, piece] = -1 / lengths
    rows[piece, piece + 1] = 1 / lengths
    return rows


def _worth_keeping(times: Floats, errors: Floats, missed: Floats) -> npt.NDArray[np.intp]:
    """The comparisons but for those that add nothing to what their neighbours say of that time:
    a wider bound, and the fit passes by them no further than both bounds allow.
    """
    bounds = errors + missed
    before = list(range(-1, len(times) - 1))
    after = list(range(1, len(times) + 1))
    kept = np.ones(len(times), np.bool_)
    for here in np.argsort(-bounds, kind="stable").tolist():
        low, high = before[here], after[here]
        if low < 0 or high == len(times):
            continue
        share = (times[here] - times[low]) / (times[high] - times[low])
        said = bounds[low] + share * (bounds[high] - bounds[low])
        wander = WANDER * min(times[here] - times[low], times[high] - times[here])
        if said + wander < bounds[here] and missed[here] <= errors[here] + said + wander:
            kept[here] = False
            after[low], before[high] = high, low
    return np.flatnonzero(kept)


def _with_ends(clock: ClockMap, begin: float, end: float) -> ClockMap:
    """With what lies before the first comparison and after the last one, and halfway between."""
    times, bounds = clock.times, clock.bounds
    halfway = (times[1:] + times[:-1]) / 2
    more = np.array([t for t in (begin, end) if not times[0] <= t <= times[-1]])
    at = np.concatenate([times, halfway, more])
    between = np.interp(halfway, times, bounds) + WANDER * np.diff(times) / 2
    outside = [_outside(clock, time) for time in more]
    order = np.argsort(at, kind="stable")
    return ClockMap(
        times=at[order],
        offsets=_line(at, times, clock.offsets)[order],
        bounds=np.concatenate([bounds, between, outside])[order],
    )


def _outside(clock: ClockMap, time: float) -> float:
    """The bound beyond the nearest comparison: the drift from there to one a piece away goes on."""
    times, bounds = clock.times, clock.bounds
    near = 0 if time < times[0] else len(times) - 1
    far = int(np.argmin(np.abs(np.abs(times - times[near]) - PIECE_S * 1e9)))
    distance, length = abs(time - times[near]), abs(times[far] - times[near])
    drift = MOST_DRIFT
    if length > 0:
        drift = min(float(bounds[near] + bounds[far]) / length + WANDER, MOST_DRIFT)
    return float(bounds[near] + distance * drift)


def _line(at: Floats, times: Floats, values: Floats) -> Floats:
    """Linear interpolation; outside, the first and the last piece go on."""
    if len(times) == 1:
        return np.full(len(at), values[0])
    piece = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    drift = np.diff(values) / np.diff(times)
    return values[piece] + (at - times[piece]) * drift[piece]
