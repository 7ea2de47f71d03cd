"""What a window of the timeline can show at a width in pixels, never more.

Events at least a pixel wide come one by one; a row holds no overlaps, so there are at most as many
as pixels. Narrower ones are summed up per pixel and kind, as the share of the pixel that they
fill. The reply is therefore bounded by rows × pixels (× kinds), however many events there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.lanes import Timeline
from tracer.schema import KINDS

MAX_WIDTH: Final = 16_384
"""Pixels: two 8K screens side by side."""
MAX_ROWS: Final = 4_096
"""Rows of one query: the height of two 8K screens at the least row height that we draw."""


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
    """Spread each event over the one or two pixels that it touches."""
    left = (timeline.start[places] - window.start) / window.ns_per_pixel
    right = left + timeline.duration[places] / window.ns_per_pixel
    first = np.floor(left).astype(np.int64)
    in_first = np.minimum(right, first + 1) - left
    key = (rows.astype(np.int64) * (window.width + 1) + first) * len(KINDS) + timeline.kind[places]
    keys = np.concatenate([key, key + len(KINDS)])
    fill = np.concatenate([in_first, right - left - in_first])
    count = np.concatenate([np.ones_like(first), np.zeros_like(first)])
    event = np.tile(timeline.source[places], 2)
    pixel = np.concatenate([first, first + 1])
    shown = ((count > 0) | (fill > 0)) & (pixel >= 0) & (pixel < window.width)
    return _summed(window, keys[shown], count[shown], fill[shown], event[shown])


def _summed(
    window: Window,
    keys: NDArray[np.int64],
    count: NDArray[np.int64],
    fill: NDArray[Any],
    event: NDArray[np.uint32],
) -> Cells:
    cells, inverse = np.unique(keys, return_inverse=True)
    one = np.zeros(len(cells), np.uint32)
    one[inverse] = event
    pixel_key, kind = np.divmod(cells, len(KINDS))
    row, pixel = np.divmod(pixel_key, window.width + 1)
    return Cells(
        row=row.astype(np.uint16),
        pixel=pixel.astype(np.uint16),
        kind=kind.astype(np.uint8),
        count=np.bincount(inverse, count, len(cells)).astype(np.uint32),
        fill=np.minimum(np.bincount(inverse, fill, len(cells)), 1.0).astype(np.float32),
        event=one,
    )
