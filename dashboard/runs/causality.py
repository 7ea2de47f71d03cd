"""What the meetings of ranks say of their clocks: no effect comes before its cause.

With hosts h and g, a cause at S on h (its raw time plus its offset) and an effect at E on g, the
offset of h is at most E − S, that of g at least S − E. Meetings in both directions bound a clock
from both sides (Duda, Harrus, Haddad and Bernard, "Estimating global time in distributed
systems", ICDCS 1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dashboard.runs.clock_map import MOST_DRIFT, WANDER, ClockMap, Floats, Ints, Samples, fit
from dashboard.runs.clock_tree import Span
from dashboard.runs.columns import distinct
from dashboard.runs.meetings import Flags, Meetings, crossing, latest_by_meeting

_WINDOW_NS: Final = 1_000_000_000
"""A clock is held to be equally far off for so long, but for its drift."""

_MOST_SAMPLES: Final = 256
"""Where meetings stand in for comparisons, the tightest one of so many windows each is taken."""


@dataclass
class Traffic:
    """All meetings of ranks of different hosts; `host` is the number of each row's in `names`."""

    rows: Meetings
    hosts: Mapping[int, str]
    names: tuple[str, ...] = field(init=False)
    host: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.names = tuple(dict.fromkeys(self.hosts.values()))
        number = {name: index for index, name in enumerate(self.names)}
        of_rank = np.full(max(self.hosts) + 1, -1, np.int64)
        for rank, name in self.hosts.items():
            of_rank[rank] = number[name]
        host = of_rank[self.rows.rank]
        kept = crossing(self.rows.meeting, host)
        self.rows, self.host = self.rows.of(kept), host[kept]


@dataclass(frozen=True, slots=True)
class _Limits:
    """What each row's meeting allows its host's clock to be off by: from `low` to `high` ns.

    Infinite where the meeting says nothing.
    """

    low: Floats
    high: Floats


def attached(
    traffic: Traffic, known: Mapping[str, ClockMap], spans: Mapping[str, Span]
) -> dict[str, ClockMap]:
    """Maps of the hosts that met those that are `known`, from their meetings alone.

    In each of up to 256 windows of time the meeting with the tightest limits stands for a
    comparison: the ends on both sides are taken for one instant, as far as the limits allow.
    """
    is_known = np.array([name in known for name in traffic.names])
    rows = traffic.rows
    if not len(rows):
        return {}
    cause, effect, bound = _on_common_clock(traffic, known)
    limits = _limits(traffic, cause, effect, bound, only=is_known[traffic.host])
    _, last = latest_by_meeting(
        rows.meeting, np.where(is_known[traffic.host], -effect, -np.inf), traffic.host
    )
    found = {}
    for number, name in enumerate(traffic.names):
        mine = (traffic.host == number) & np.isfinite(limits.low) & np.isfinite(limits.high)
        if name not in known and mine.any():
            guess = -last[mine] - rows.effect[mine]
            samples = _tightest(rows.effect[mine], guess, limits.low[mine], limits.high[mine])
            found[name] = fit(samples, *spans[name])
    return found


def tightened(traffic: Traffic, found: Mapping[str, ClockMap]) -> dict[str, ClockMap]:
    """The maps, moved and bound tighter where meetings say so."""
    cause, effect, bound = _on_common_clock(traffic, found)
    limits = _limits(traffic, cause, effect, bound)
    better = dict(found)
    if not len(traffic.rows):
        return better
    for number, name in enumerate(traffic.names):
        mine = traffic.host == number
        if mine.any() and found[name].bound_ns > 0:
            raw = np.where(traffic.rows.has_effect, traffic.rows.effect, traffic.rows.cause)[mine]
            better[name] = _tightened(found[name], raw, limits.low[mine], limits.high[mine])
    return better


def contradictions(traffic: Traffic, found: Mapping[str, ClockMap]) -> tuple[int, int]:
    """Meetings of different hosts, and those with an effect before its cause on another host."""
    if not len(traffic.rows):
        return 0, 0
    cause, effect, _ = _on_common_clock(traffic, found)
    elsewhere, _ = latest_by_meeting(traffic.rows.meeting, cause, traffic.host)
    early = traffic.rows.has_effect & (effect < elsewhere)
    return len(distinct(traffic.rows.meeting)), len(distinct(traffic.rows.meeting[early]))


def _limits(
    traffic: Traffic,
    cause: Floats,
    effect: Floats,
    bound: Floats,
    only: Flags | None = None,
) -> _Limits:
    """From the rows of other hosts (`only` those, if given), each give or take its own bound.

    `cause` and `effect` are on the common clock, ∓inf where there is none.
    """
    given = np.ones(len(cause), np.bool_) if only is None else only
    after, _ = latest_by_meeting(
        traffic.rows.meeting, np.where(given, cause - bound, -np.inf), traffic.host
    )
    before, _ = latest_by_meeting(
        traffic.rows.meeting, np.where(given, -(effect + bound), -np.inf), traffic.host
    )
    return _Limits(low=after - effect, high=-before - cause)


def _on_common_clock(
    traffic: Traffic, maps: Mapping[str, ClockMap]
) -> tuple[Floats, Floats, Floats]:
    """Cause and effect of each row, −inf and +inf where there is none, and their bound.

    Rows of hosts without a map stay on their own clock.
    """
    rows = traffic.rows
    cause, effect = rows.cause.astype(np.float64), rows.effect.astype(np.float64)
    bound = np.zeros(len(rows))
    for number, name in enumerate(traffic.names):
        mine = traffic.host == number
        if name in maps and mine.any():
            cause[mine] = maps[name].to_common(rows.cause[mine])
            effect[mine] = maps[name].to_common(rows.effect[mine])
            when = np.where(rows.has_effect, rows.effect, rows.cause)[mine]
            bound[mine] = maps[name].bound_at(when)
    cause[~rows.has_cause] = -np.inf
    effect[~rows.has_effect] = np.inf
    return cause, effect, bound


def _tightest(raw: Ints, guess: Floats, low: Floats, high: Floats) -> Samples:
    """The tightest meeting of each window as a comparison."""
    length = max(float(raw.max() - raw.min()) / _MOST_SAMPLES, float(_WINDOW_NS))
    window = ((raw - raw.min()) / length).astype(np.int64)
    order = np.lexsort((high - low, window))
    first = order[np.concatenate([[True], np.diff(window[order]) > 0])]
    offset = np.clip(guess[first], low[first], high[first])
    error = np.maximum(high[first] - offset, offset - low[first])
    return Samples(
        times=raw[first],
        offsets=np.rint(offset).astype(np.int64),
        errors=np.ceil(np.abs(error)).astype(np.int64),
    )


def _tightened(clock: ClockMap, raw: Ints, low: Floats, high: Floats) -> ClockMap:
    """Each window's limits, and how fast the clock may drift out of them, against its bound."""
    window = (raw - raw.min()) // _WINDOW_NS
    windows = distinct(window)
    place = np.searchsorted(windows, window)
    least, most = np.full(len(windows), -np.inf), np.full(len(windows), np.inf)
    np.maximum.at(least, place, low)
    np.minimum.at(most, place, high)
    middle = raw.min() + (np.bincount(place, raw - raw.min()) / np.bincount(place)).astype(np.int64)
    bound = clock.bound_at(middle)
    slack = _WINDOW_NS * (WANDER + _drift_error(clock))
    least, most = np.maximum(least - slack, -bound), np.minimum(most + slack, bound)
    tighter = (least <= most) & ((least > -bound) | (most < bound))
    if not tighter.any():
        return clock
    moved = np.clip(0.0, least, most)[tighter]
    times = np.concatenate([clock.times, middle[tighter].astype(np.float64)])
    offsets = _offset_at(clock, middle[tighter]) + moved
    bounds = np.maximum(most[tighter] - moved, moved - least[tighter])
    _, first = np.unique(times, return_index=True)
    return ClockMap(
        times=times[first],
        offsets=np.concatenate([clock.offsets, offsets])[first],
        bounds=np.concatenate([clock.bounds, bounds])[first],
    )


def _drift_error(clock: ClockMap) -> float:
    """By how much the drift of the map may be off: its bounds at both ends, over its length."""
    length = float(clock.times[-1] - clock.times[0])
    if length <= 0:
        return MOST_DRIFT
    return min(MOST_DRIFT, float(clock.bounds[0] + clock.bounds[-1]) / length)


def _offset_at(clock: ClockMap, raw: Ints) -> Floats:
    return (clock.to_common(raw) - raw).astype(np.float64)
