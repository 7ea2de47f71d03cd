"""What a window of the timeline can show at a width in pixels, never more.

Events at least a pixel wide come one by one; a row holds no overlaps, so there are at most as many
as pixels. Narrower ones are summed up per pixel and kind, as the share of the pixel that they
fill. The reply is therefore bounded by rows × pixels (× kinds), however many events there are.

Near enough, that is worked out from the events in the window (`Cells`). From afar, with millions of
them in it, it is looked up (`Fills`): then the window is cut into bins of the occupancy's
level that are at most a pixel wide, and "narrower" means narrower than those.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.lanes import Timeline
from dashboard.timeline.occupancy import Fills, Occupancy, fills_between, level_for, wide_between
from dashboard.timeline.segments import first_at_or_after, ranges, touching
from tracer.schema import KINDS

MAX_WIDTH: Final = 16_384
"""Pixels: two 8K screens side by side."""
MAX_ROWS: Final = 4_096
"""Rows of one query: the height of two 8K screens at the least row height that we draw."""
LAST_ROW: Final = np.iinfo(np.uint16).max
"""Rows are counted in 16 bits on the wire; nobody scrolls through more."""

MOST_FILLS: Final = 3 << 18
"""Values of occupancy in one reply: up to 240 kB when compressed, which leaves room for boxes
within 300 kB. A window of more gets wider bins; that takes 150 rows of two or three kinds each, and
twice the width of a large screen."""

MOST_CELLS: Final = 1 << 19
"""Pixels times kinds from which on the base bins are taken where they are up to two pixels wide:
there, a cell for nearly each would be 300 kB and more."""

_LEAST_FILL: Final = 1e-9
"""Less of a pixel than this is a rounding error of the division, not an event."""
_CELL_TYPES: Final = (np.uint16, np.uint16, np.uint8, np.uint32, np.float32, np.uint32)


@dataclass(kw_only=True, slots=True, frozen=True)
class Window:
    """What to look at: ns from the run's start, pixels, and rows `first_row … end_row - 1`."""

    start: int
    end: int
    width: int
    first_row: int
    end_row: int

    @property
    def ns_per_pixel(self) -> float:
        """The scale."""
        return (self.end - self.start) / self.width


@dataclass(kw_only=True, slots=True, frozen=True)
class Boxes:
    """Events of a pixel or wider. `start` and `duration` are ns, `start` from the window's;
    `event` is the place in the rank's events; `kind`, `name`, `microbatch` as in `Timeline`.
    """

    row: NDArray[np.uint16]
    start: NDArray[np.float64]
    duration: NDArray[np.float64]
    kind: NDArray[np.uint8]
    name: NDArray[np.int32]
    microbatch: NDArray[np.int32]
    event: NDArray[np.uint32]


@dataclass(kw_only=True, slots=True, frozen=True)
class Cells:
    """Narrower events, summed up per row, pixel and kind: how many start there, and the share of
    the pixel that they fill (0 to 1). `event` is one of them: the event itself where count is 1.
    """

    row: NDArray[np.uint16]
    pixel: NDArray[np.uint16]
    kind: NDArray[np.uint8]
    count: NDArray[np.uint32]
    fill: NDArray[np.float32]
    event: NDArray[np.uint32]


@dataclass(kw_only=True, slots=True, frozen=True)
class Merged:
    """What one merged pixel stands for. `count` and `busy` (ns, also of what reaches out of the
    pixel) have a value per kind; `events` holds the first event's place in the rank's events, if
    there is one.
    """

    count: NDArray[np.int64]
    busy: NDArray[np.int64]
    events: NDArray[np.uint32]


@dataclass(kw_only=True, slots=True, frozen=True)
class Picture:
    """What a window shows. With `fills`, `window` is the one asked for, widened to whole bins, its
    pixels are the bins, and there are no `cells`.
    """

    window: Window
    boxes: Boxes
    cells: Cells
    fills: Fills | None = None


def query(timeline: Timeline, window: Window) -> Picture:
    """What `window` shows of `timeline`."""
    end_row = min(window.end_row, timeline.row_count)
    window = replace(window, first_row=min(window.first_row, end_row), end_row=end_row)
    level = -1 if timeline.occupancy is None else _level(timeline.occupancy, window)
    if timeline.occupancy is None or level < 0:
        return _from_events(timeline, window)
    return _from_afar(timeline, timeline.occupancy, level, window)


def merged(timeline: Timeline, row: int, begin: int, end: int) -> Merged:
    """The events of a row shorter than `end - begin` (ns) that start there."""
    low, high = (np.array([timeline.offsets[at]]) for at in (row, row + 1))
    at = timeline.start.__getitem__
    places = slice(
        int(first_at_or_after(at, low, high, begin)[0]),
        int(first_at_or_after(at, low, high, end)[0]),
    )
    duration = timeline.duration[places]
    short = duration < end - begin
    kind = timeline.kind[places][short]
    return Merged(
        count=np.bincount(kind, minlength=len(KINDS)),
        busy=np.bincount(kind, duration[short], len(KINDS)).astype(np.int64),
        events=timeline.source[places][short][:1],
    )


def _level(occupancy: Occupancy, window: Window) -> int:
    """The coarsest level with bins of at most a pixel, or a coarser one if that would send more
    than `MOST_FILLS`; below 0 where events are looked at one by one.
    """
    level = level_for(occupancy, window.ns_per_pixel)
    series = occupancy.series_offsets[window.end_row] - occupancy.series_offsets[window.first_row]
    if series * window.width > MOST_CELLS and 2 * window.ns_per_pixel >= occupancy.base:
        level = max(level, 0)
    while 0 <= level < len(occupancy.levels) - 1:
        if series * (window.end - window.start) <= MOST_FILLS * (occupancy.base << level):
            break
        level += 1
    return level


def _from_afar(timeline: Timeline, occupancy: Occupancy, level: int, window: Window) -> Picture:
    rows = (window.first_row, window.end_row)
    fills = fills_between(occupancy, level, window.start, window.end, rows)
    bins = fills.fill.shape[1]
    snapped = replace(window, start=fills.start, end=fills.start + bins * fills.bin, width=bins)
    places, row = wide_between(occupancy, timeline, level, snapped.start, snapped.end, rows)
    boxes = _boxes(timeline, snapped, places, row.astype(np.uint16))
    none = np.zeros(0, np.int64)
    cells = _cells(timeline, snapped, none, none.astype(np.uint16))
    return Picture(window=snapped, boxes=boxes, cells=cells, fills=fills)


def _from_events(timeline: Timeline, window: Window) -> Picture:
    rows = np.arange(window.first_row, window.end_row)
    first, last = touching(
        timeline.start.__getitem__,
        timeline.duration.__getitem__,
        *(timeline.offsets[rows], timeline.offsets[rows + 1], window.start, window.end),
    )
    places = ranges(first, last)
    row = np.repeat(rows.astype(np.uint16), last - first)
    duration = timeline.duration[places]
    wide = (duration > 0) & (duration >= window.ns_per_pixel)
    return Picture(
        window=window,
        boxes=_boxes(timeline, window, places[wide], row[wide]),
        cells=_cells(timeline, window, places[~wide], row[~wide]),
    )


def _boxes(
    timeline: Timeline, window: Window, places: NDArray[np.int64], rows: NDArray[np.uint16]
) -> Boxes:
    return Boxes(
        row=rows,
        start=(timeline.start[places] - window.start).astype(np.float64),
        duration=timeline.duration[places].astype(np.float64),
        kind=timeline.kind[places],
        name=timeline.name[places],
        microbatch=timeline.microbatch[places],
        event=timeline.source[places],
    )


def _cells(
    timeline: Timeline, window: Window, places: NDArray[np.int64], rows: NDArray[np.uint16]
) -> Cells:
    """Row by row, so that the sums need one row of pixels at a time; `rows` is sorted."""
    present, first = np.unique(rows, return_index=True)
    parts = [
        _row_cells(timeline, window, int(row), members)
        for row, members in zip(present, np.split(places, first[1:]), strict=False)
    ]
    return Cells(
        **{
            field.name: np.concatenate([np.zeros(0, dtype), *(part[at] for part in parts)])
            for at, (field, dtype) in enumerate(zip(fields(Cells), _CELL_TYPES, strict=True))
        }
    )


def _row_cells(
    timeline: Timeline, window: Window, row: int, places: NDArray[np.int64]
) -> tuple[NDArray[Any], ...]:
    """Spread each event over the one or two pixels that it touches, and sum by pixel and kind."""
    left = (timeline.start[places] - window.start) / window.ns_per_pixel
    right = left + timeline.duration[places] / window.ns_per_pixel
    pixel = np.floor(left).astype(np.int64)
    in_first = np.minimum(right, pixel + 1) - left
    cells = (window.width + 2) * len(KINDS)
    # one pixel to the left, so that what begins before the window has a place, which is cut off
    first = (pixel + 1) * len(KINDS) + timeline.kind[places]
    second = np.minimum(first + len(KINDS), cells - 1)
    count = np.bincount(first, minlength=cells)
    fill = np.bincount(first, in_first, cells) + np.bincount(second, right - left - in_first, cells)
    event = np.zeros(cells, np.uint32)
    event[second] = timeline.source[places]
    event[first] = timeline.source[places]
    inside = slice(len(KINDS), (window.width + 1) * len(KINDS))
    shown = np.flatnonzero((count[inside] > 0) | (fill[inside] > _LEAST_FILL)) + len(KINDS)
    of_pixel, kind = np.divmod(shown, len(KINDS))
    values: list[NDArray[Any]] = [np.full(len(shown), row), of_pixel - 1, kind]
    values += [count[shown], np.minimum(fill[shown], 1.0), event[shown]]
    return tuple(value.astype(dtype) for value, dtype in zip(values, _CELL_TYPES, strict=True))
