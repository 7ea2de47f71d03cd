"""What a window of the timeline can show at a width in pixels, never more.

Events at least a pixel wide come one by one; a row holds no overlaps, so there are at most as many
as pixels. Narrower ones are summed up per pixel and kind, as the share of the pixel that they
fill. The reply is therefore bounded by rows × pixels (× kinds), however many events there are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.lanes import Timeline
from tracer.schema import KINDS

MAX_WIDTH: Final = 16_384
"""Pixels: two 8K screens side by side."""
MAX_ROWS: Final = 4_096
"""Rows of one query: the height of two 8K screens at the least row height that we draw."""
LAST_ROW: Final = np.iinfo(np.uint16).max
"""Rows are counted in 16 bits on the wire; nobody scrolls through more."""

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


def query(timeline: Timeline, window: Window) -> tuple[Boxes, Cells]:
    """What `window` shows of `timeline`."""
    places, rows = _inside(timeline, window)
    duration = timeline.duration[places]
    wide = (duration > 0) & (duration >= window.ns_per_pixel)
    return (
        _boxes(timeline, window, places[wide], rows[wide]),
        _cells(timeline, window, places[~wide], rows[~wide]),
    )


def _inside(timeline: Timeline, window: Window) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Events that touch the window, and the row of each."""
    places = [np.zeros(0, np.int64)]
    counts = []
    rows = range(window.first_row, min(window.end_row, timeline.row_count))
    for row in rows:
        low, high = int(timeline.offsets[row]), int(timeline.offsets[row + 1])
        start = timeline.start[low:high]
        first = int(np.searchsorted(start, window.start, side="left"))
        if first and int(start[first - 1] + timeline.duration[low + first - 1]) > window.start:
            first -= 1
        last = int(np.searchsorted(start, window.end, side="left"))
        places.append(np.arange(low + first, low + max(first, last), dtype=np.int64))
        counts.append(len(places[-1]))
    return np.concatenate(places), np.repeat(np.asarray(rows, np.uint16), counts)


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
