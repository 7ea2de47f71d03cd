"""What the timeline shows from afar: how full each row is, kind by kind, at every scale.

Two parts, made once per run. A pyramid: level l cuts the run into bins of `base << l` ns, and says
per row and kind which share of each bin is filled by events shorter than the bin, in 1/65535.
And the events that are not shorter than a base bin, ordered by (row, duration class, start), class
c from `base << c` to below `base << (c + 1)`: at level l, those of the classes from l on are drawn
one by one. So a window reads as many values as it has pixels, however many events there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.array_file import Array, Store
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
_AT_ONCE: Final = 1 << 16
"""Events of a row that are in memory together while this is made."""


class Events(Protocol):
    """The columns that are read here; see `Timeline`."""

    @property
    def start(self) -> Ints:
        """ns."""

    @property
    def duration(self) -> Ints:
        """ns."""


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
    columns: Mapping[str, Array],
    offsets: Sequence[int],
    span: tuple[int, int],
    store: Store,
    advance: Callable[[int], object] = lambda events: None,
) -> dict[str, int]:
    """Make the arrays of `Occupancy`, row by row, in `store`; returns the rest of it.

    columns: `kind`, `start` and `duration` (ns) of all events. offsets: as `Timeline` has them.
    advance: is told the events of each row when it is done.
    """
    rows = [slice(low, high) for low, high in pairwise(offsets)]
    kinds = [_kinds(columns["kind"], row) for row in rows]
    series = sum(len(found) for found in kinds)
    bins = _bins(offsets[-1], series, span[1] - span[0])
    base = (span[1] - span[0]) // bins + 1  # an event without duration may lie at the very end
    levels = tuple(
        store.allocate(f"level_{level}", np.uint16, (series, bins >> level))
        for level in range(bins.bit_length())
    )
    at, counts = 0, []
    for row, present in zip(rows, kinds, strict=True):
        for code in present.tolist():
            for level, filled in enumerate(
                _levels(_of_kind(columns, row, code, span[0]), base, bins)
            ):
                levels[level][at] = filled
            at += 1
        counts.append(_count_by_class(columns["duration"], row, base))
        advance(row.stop - row.start)
    classes_of_all = max(map(len, counts), default=1)
    of_rows = [np.pad(count, (0, classes_of_all - len(count))) for count in counts]
    offsets_of_wide = np.cumsum(np.concatenate([[0], *of_rows]), dtype=np.int64)
    store.keep("series_offsets", np.cumsum([0, *map(len, kinds)], dtype=np.int64))
    store.keep("series_kind", np.concatenate([np.zeros(0, np.uint8), *kinds]))
    store.keep("wide_offsets", offsets_of_wide)
    _keep_wide(columns["duration"], rows, base, store, offsets_of_wide)
    return {
        "origin": span[0],
        "base": base,
        "levels": len(levels),
        "classes": classes_of_all,
    }


def occupancy_from(said: Mapping[str, int], arrays: Mapping[str, NDArray[Any]]) -> Occupancy:
    """What `build_occupancy` made."""
    return Occupancy(
        origin=said["origin"],
        base=said["base"],
        classes=said["classes"],
        levels=tuple(arrays[f"level_{level}"] for level in range(said["levels"])),
        **{name: arrays[name] for name in ("series_offsets", "series_kind", "wide_offsets")},
        wide=arrays["wide"],
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


def _classes(duration: Any, base: int) -> Any:
    """log2(duration / base), rounded down; -1 for what is shorter than `base`."""
    return np.frexp(np.asarray(duration // base, np.float64))[1] - 1


def _pieces(row: slice) -> Iterable[slice]:
    """The events of a row, `_AT_ONCE` at a time."""
    for low in range(row.start, row.stop, _AT_ONCE):
        yield slice(low, min(low + _AT_ONCE, row.stop))


def _kinds(kind: Array, row: slice) -> NDArray[np.uint8]:
    """Those that occur in a row, ascending."""
    found = [np.unique(kind[piece]) for piece in _pieces(row)]
    return np.unique(np.concatenate([np.zeros(0, np.uint8), *found]))


def _of_kind(
    columns: Mapping[str, Array], row: slice, kind: int, origin: int
) -> Iterable[tuple[Ints, Ints]]:
    """Start (ns from `origin`) and duration of the events of one kind, piece by piece."""
    for piece in _pieces(row):
        mine = columns["kind"][piece] == kind
        yield columns["start"][piece][mine] - origin, columns["duration"][piece][mine]


def _count_by_class(duration: Array, row: slice, base: int) -> Ints:
    """How many events of a row are of each class that it has."""
    counts = np.zeros(1, np.int64)
    for piece in _pieces(row):
        classes = _classes(duration[piece], base)
        here = np.bincount(classes[classes >= 0], minlength=len(counts))
        here[: len(counts)] += counts
        counts = here
    return counts


def _levels(
    pieces: Iterable[tuple[Ints, Ints]], base: int, bins: int
) -> Iterable[NDArray[np.uint16]]:
    """One series at every level: each is the one below it in pairs, plus the events that are
    shorter than its bins but not than those below.
    """
    own: dict[int, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
    for start, duration in pieces:
        level_of = _classes(duration, base) + 1
        for level in np.flatnonzero(np.bincount(level_of)).tolist():
            if level < bins.bit_length():
                here = np.flatnonzero(level_of == level)
                size = bins >> level
                of_level = own.setdefault(level, (np.zeros(size), np.zeros(size, np.bool_)))
                _spread(start[here], duration[here], base << level, *of_level)
    filled, touched = own.pop(0, (np.zeros(bins), np.zeros(bins, np.bool_)))
    for level in range(bins.bit_length()):
        if level:
            filled = filled[0::2] + filled[1::2]
            touched = touched[0::2] | touched[1::2]
        if level in own:
            of_level = own.pop(level)
            filled += of_level[0]
            touched |= of_level[1]
        shares = np.rint(filled * (FULL / (base << level)))
        yield np.maximum(shares, touched).astype(np.uint16)


def _spread(
    start: Ints,
    duration: Ints,
    width: int,
    filled: NDArray[np.float64],
    touched: NDArray[np.bool_],
) -> None:
    """Add the ns of events shorter than a bin to the one or two bins that each of them touches.
    They come in order of start.
    """
    bins = len(filled)
    first = np.minimum(start // width, bins - 1)
    in_first = np.minimum((first + 1) * width - start, duration)
    beyond = duration - in_first
    low = int(first[0])
    count = min(int(first[-1]) + 2, bins) - low
    filled[low : low + count] += np.bincount(first - low, in_first, count)
    touched[first] = True
    crossing = np.flatnonzero(beyond > 0)
    if len(crossing):
        second = np.minimum(first[crossing] + 1, bins - 1)
        filled[low : low + count] += np.bincount(second - low, beyond[crossing], count)
        touched[second] = True


def _keep_wide(
    duration: Array, rows: Sequence[slice], base: int, store: Store, offsets: Ints
) -> None:
    """The events of each row that are no shorter than a base bin, by class, then start; those of
    row r and class c end at `offsets[r * classes + c + 1]`.
    """
    wide = store.allocate("wide", np.uint32, (int(offsets[-1]),))
    classes_of_row = (len(offsets) - 1) // max(len(rows), 1)
    for number, row in enumerate(rows):
        first = number * classes_of_row
        next_of_class = offsets[first : first + classes_of_row].tolist()
        for piece in _pieces(row):
            classes = _classes(duration[piece], base)
            places = np.flatnonzero(classes >= 0)
            places = places[np.argsort(classes[places], kind="stable")]
            for code, count in enumerate(np.bincount(classes[places]).tolist()):
                if count:
                    mine, places = places[:count], places[count:]
                    at = next_of_class[code]
                    wide[at : at + count] = piece.start + mine
                    next_of_class[code] = at + count
