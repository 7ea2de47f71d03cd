"""What the timeline shows from afar: how full each row is, kind by kind, at every scale.

Two parts, made once per run. A pyramid: level l cuts the run into bins of `base << l` ns, and says
per row and kind which share of each bin is filled by events shorter than the bin, in 1/65535.
And the events that are not shorter than a base bin, ordered by (row, duration class, start), class
c from `base << c` to below `base << (c + 1)`: at level l, those of the classes from l on are drawn
one by one. So a window reads as many values as it has pixels, however many events there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.segments import ranges, touching

Ints = NDArray[np.int64]

FULL: Final = np.iinfo(np.uint16).max
"""The value of a bin that is wholly filled."""

_BINS_PER_EVENT: Final = 2
"""Base bins of all rows and kinds, per event: windows finer than that read single events, some
half of one per pixel and kind. Costs 8 bytes per event: 2 bytes a bin, and all levels above
the base are as large together as it is."""
_LEAST_BINS: Final = 1 << 10
"""A handful of events is cut finely enough for any window of the whole run."""
_MOST_BINS: Final = 1 << 24
"""Bins of a row at the base: one series takes 128 MB of memory while it is made."""


class Events(Protocol):
    """The columns that are read here; see `Timeline`."""

    @property
    def offsets(self) -> Ints:
        """Where each row's events begin, and where the last one's end."""

    @property
    def start(self) -> Ints:
        """ns."""

    @property
    def duration(self) -> Ints:
        """ns."""

    @property
    def kind(self) -> NDArray[np.uint8]:
        """Place in `KINDS`."""


class Allocate(Protocol):
    """Makes an array of zeros: in memory, or in a file."""

    def __call__(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """The array, which is kept under that name."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Occupancy:
    """The pyramid and the order of the wide events.

    `levels[l]` has shape (series, bins), uint16; bin b begins `b * (base << l)` ns after `origin`.
    A series is a row and a kind that occurs in it; `series_offsets[row] : series_offsets[row + 1]`
    are a row's. `wide` are places of events in the timeline; those of row r and class c are
    `wide_offsets[r * classes + c] : wide_offsets[r * classes + c + 1]` of it.
    """

    origin: int
    base: int
    levels: tuple[NDArray[np.uint16], ...]
    series_offsets: Ints
    series_kind: NDArray[np.uint8]
    classes: int
    wide_offsets: Ints
    wide: NDArray[np.uint32]


@dataclass(kw_only=True, slots=True, frozen=True)
class Fills:
    """A stretch of one level: `fill[i, b]` is what series i, of that row and kind, fills of bin b
    (1 to 65535, 0: nothing there). `start` and `bin` are ns.
    """

    start: int
    bin: int
    row: NDArray[np.uint16]
    kind: NDArray[np.uint8]
    fill: NDArray[np.uint16]


def build_occupancy(
    events: Events,
    span: tuple[int, int],
    allocate: Allocate,
    advance: Callable[[int], object] = lambda events: None,
) -> Occupancy:
    """The pyramid of these rows; `advance` is told the events of each row when it is done."""
    rows = len(events.offsets) - 1
    kinds = [np.unique(events.kind[of_row]) for of_row in _rows(events)]
    series = sum(len(found) for found in kinds)
    bins = _bins(len(events.start), series, span[1] - span[0])
    base = (span[1] - span[0]) // bins + 1  # an event without duration may lie at the very end
    levels = tuple(
        allocate(f"level_{level}", np.uint16, (series, bins >> level))
        for level in range(bins.bit_length())
    )
    at = 0
    for of_row, present in zip(_rows(events), kinds, strict=True):
        start, duration = events.start[of_row] - span[0], events.duration[of_row]
        for kind in present:
            mine = events.kind[of_row] == kind
            for level, filled in enumerate(_levels(start[mine], duration[mine], base, bins)):
                levels[level][at] = filled
            at += 1
        advance(of_row.stop - of_row.start)
    classes = max(int(_classes(events.duration.max(initial=0), base)) + 1, 1)
    return Occupancy(
        origin=span[0],
        base=base,
        levels=levels,
        series_offsets=np.cumsum([0, *map(len, kinds)], dtype=np.int64),
        series_kind=np.concatenate([np.zeros(0, np.uint8), *kinds]),
        classes=classes,
        **_wide(events, base, rows, classes, allocate),
    )


def level_for(occupancy: Occupancy, ns_per_pixel: float) -> int:
    """The coarsest level whose bins are no wider than a pixel; below 0 if there is none."""
    if ns_per_pixel < occupancy.base:
        return -1
    finest = int(ns_per_pixel) // occupancy.base
    return min(finest.bit_length(), len(occupancy.levels)) - 1


def fills_between(
    occupancy: Occupancy, level: int, begin: int, end: int, rows: tuple[int, int]
) -> Fills:
    """The bins of a level that touch `begin` to `end` (ns), for rows `rows[0] … rows[1] - 1`; they
    may reach beyond the run, where nothing is filled.
    """
    width = occupancy.base << level
    first = (begin - occupancy.origin) // width
    last = -(-(end - occupancy.origin) // width)
    low, high = (int(occupancy.series_offsets[row]) for row in rows)
    found = occupancy.levels[level]
    known = slice(min(max(first, 0), found.shape[1]), min(max(last, 0), found.shape[1]))
    fill = np.zeros((high - low, last - first), np.uint16)
    if known.stop > known.start:
        fill[:, known.start - first : known.stop - first] = found[low:high, known]
    counts = np.diff(occupancy.series_offsets[rows[0] : rows[1] + 1])
    return Fills(
        start=occupancy.origin + first * width,
        bin=width,
        row=np.repeat(np.arange(*rows), counts).astype(np.uint16),
        kind=occupancy.series_kind[low:high],
        fill=fill,
    )


def wide_between(
    occupancy: Occupancy,
    events: Events,
    level: int,
    begin: int,
    end: int,
    rows: tuple[int, int],
) -> tuple[Ints, Ints]:
    """Events of those rows that touch `begin` to `end` (ns) and are no shorter than a bin of the
    level: their places in the timeline, and the row of each; by row, then start.
    """
    pieces = np.arange(rows[0] * occupancy.classes, rows[1] * occupancy.classes)
    pieces = pieces[pieces % occupancy.classes >= level]
    low, high = occupancy.wide_offsets[pieces], occupancy.wide_offsets[pieces + 1]
    first, last = touching(
        lambda at: events.start[occupancy.wide[at]],
        lambda at: events.duration[occupancy.wide[at]],
        *(low, high, begin, end),
    )
    row = np.repeat(pieces // occupancy.classes, last - first)
    places = occupancy.wide[ranges(first, last)].astype(np.int64)
    order = np.argsort(places, kind="stable")
    return places[order], row[order]


def _bins(events: int, series: int, span: int) -> int:
    """Base bins of a row, a power of two; none shorter than a ns."""
    wanted = _BINS_PER_EVENT * events // max(series, 1)
    possible = 1 << max(span.bit_length() - 1, 0)
    return min(max(1 << wanted.bit_length(), _LEAST_BINS), _MOST_BINS, possible)


def _rows(events: Events) -> Iterator[slice]:
    offsets = events.offsets.tolist()
    for low, high in pairwise(offsets):
        yield slice(low, high)


def _classes(duration: Any, base: int) -> Any:
    """log2(duration / base), rounded down; -1 for what is shorter than `base`."""
    return np.frexp(np.asarray(duration // base, np.float64))[1] - 1


def _levels(start: Ints, duration: Ints, base: int, bins: int) -> Iterable[NDArray[np.uint16]]:
    """One series at every level: each is the one below it in pairs, plus the events that are
    shorter than its bins but not than those below.
    """
    classes = _classes(duration, base)
    filled, touched = np.zeros(bins), np.zeros(bins, np.bool_)
    for level in range(bins.bit_length()):
        if level:
            filled = filled[0::2] + filled[1::2]
            touched = touched[0::2] | touched[1::2]
        here = np.flatnonzero(classes == level - 1)
        if len(here):
            _spread(start[here], duration[here], base << level, filled, touched)
        shares = np.rint(filled * (FULL / (base << level)))
        yield np.maximum(shares, touched).astype(np.uint16)


def _spread(
    start: Ints,
    duration: Ints,
    width: int,
    filled: NDArray[np.float64],
    touched: NDArray[np.bool_],
) -> None:
    """Add the ns of events shorter than a bin to the one or two bins that each of them touches."""
    bins = len(filled)
    first = np.minimum(start // width, bins - 1)
    in_first = np.minimum((first + 1) * width - start, duration)
    beyond = duration - in_first
    filled += np.bincount(first, in_first, bins)
    touched[first] = True
    crossing = np.flatnonzero(beyond > 0)
    if len(crossing):
        second = np.minimum(first[crossing] + 1, bins - 1)
        filled += np.bincount(second, beyond[crossing], bins)
        touched[second] = True


def _wide(
    events: Events, base: int, rows: int, classes: int, allocate: Allocate
) -> dict[str, NDArray[Any]]:
    """The events of each row that are no shorter than a base bin, by class, then start."""
    counts = np.zeros((rows, classes), np.int64)
    for row, of_row in enumerate(_rows(events)):
        found = _classes(events.duration[of_row], base)
        counts[row] = np.bincount(found[found >= 0], minlength=classes)
    offsets = np.concatenate([[0], np.cumsum(counts.ravel())])
    wide = allocate("wide", np.uint32, (int(offsets[-1]),))
    for row, of_row in enumerate(_rows(events)):
        found = _classes(events.duration[of_row], base)
        places = np.flatnonzero(found >= 0)
        places = of_row.start + places[np.argsort(found[places], kind="stable")]
        here = slice(int(offsets[row * classes]), int(offsets[(row + 1) * classes]))
        wide[here] = places
    return {"wide_offsets": offsets, "wide": wide}
