"""The timeline's reply to the browser: a JSON head, and arrays made so that they compress well.

uint32  length of the head
head    JSON: window, names of the boxes, scales, and per array its name, type, offset, length,
        and whether it holds differences
arrays  little-endian, each at a multiple of 8 bytes from the start of the first

Of numbers of several bytes, all first bytes come first, then all second ones, and so on: the high
ones are mostly equal. Where it says so, an array holds what each value is more than the one before
it, as 0, 1, 2, 3, 4 for 0, -1, 1, -2, 2. assets/timeline/data.mjs reads all this.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboard.timeline.lanes import Timeline
from dashboard.timeline.occupancy import FULL
from dashboard.timeline.steps import ShownSteps, steps_in
from dashboard.timeline.window import Boxes, Cells, Picture

_ALIGNMENT: Final = 8
_LABEL_PIXELS: Final = 28
"""Boxes narrower than this have no room for a name, so that names need not be sent."""
_EXACT_BOXES: Final = 4_096
"""So many boxes come with times to the ns."""
_PARTS_OF_A_PIXEL: Final = 16
"""With more boxes than that, edges are rounded to a sixteenth of a pixel."""
_GRADES: Final = ((1 << 17, 255), (1 << 18, 31))
"""So many shares, at most, are sent in so many grades; more in `_COARSE`. With more values there
are more rows, and each is less high: 255 where rows have up to 76 pixels, 15 where they have 20."""
_COARSE: Final = 15

_DIFFERENCES: Final = frozenset(
    {"box_row", "box_start", "box_event", "cell_row", "cell_pixel", "cell_event", "fill_row"}
)


@dataclass(kw_only=True, slots=True, frozen=True)
class _Body:
    places: dict[str, list[Any]]
    content: bytes


def encode(timeline: Timeline, picture: Picture, *, asked_ns_per_pixel: float) -> bytes:
    """The reply for a window."""
    window, boxes, cells, fills = picture.window, picture.boxes, picture.cells, picture.fills
    unit = _unit(window.ns_per_pixel) if len(boxes.row) > _EXACT_BOXES else 1
    shares = len(cells.row) + (0 if fills is None else fills.fill.size)
    grades = next((grades for most, grades in _GRADES if shares <= most), _COARSE)
    arrays = {f"box_{f.name}": getattr(boxes, f.name) for f in fields(Boxes)}
    arrays["box_start"], arrays["box_duration"] = _edges(boxes, unit)
    arrays |= {f"cell_{f.name}": getattr(cells, f.name) for f in fields(Cells)}
    arrays["cell_fill"] = np.ceil(cells.fill * grades).astype(np.uint8)
    # the place of an event is looked at only where there is one alone
    arrays["cell_event"] = _kept_from_before(cells.event, cells.count == 1)
    # From afar the window's pixels are bins, of which there may be more or fewer than asked for.
    steps = steps_in(timeline, window, (window.end - window.start) / asked_ns_per_pixel)
    arrays |= {f"step_{f.name}": getattr(steps, f.name) for f in fields(ShownSteps)}
    if fills is not None:
        arrays |= {"fill_row": fills.row, "fill_kind": fills.kind}
        arrays["fill_share"] = _graded(fills.fill, grades).ravel()
    wide = boxes.duration >= _LABEL_PIXELS * window.ns_per_pixel
    body = _body(arrays)
    head = {
        "start": window.start,
        "end": window.end,
        "width": window.width,
        "first_row": window.first_row,
        "end_row": window.end_row,
        "asked_ns_per_pixel": asked_ns_per_pixel,
        "unit": unit,
        "grades": grades,
        "names": {int(code): timeline.names[code] for code in np.unique(boxes.name[wide])},
        "arrays": body.places,
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + struct.calcsize("<I")) % _ALIGNMENT)
    return struct.pack("<I", len(text)) + text + body.content


def _graded(fill: NDArray[np.uint16], grades: int) -> NDArray[np.uint8]:
    """Shares of 65535 as the next whole grade, so that what is there is seen."""
    table = -(-np.arange(FULL + 1) * grades // FULL)
    graded: NDArray[np.uint8] = table.astype(np.uint8)[fill]
    return graded


def _unit(ns_per_pixel: float) -> int:
    """The power of two that is a sixteenth of a pixel or less; ns."""
    return 1 << max(int(ns_per_pixel / _PARTS_OF_A_PIXEL).bit_length() - 1, 0)


def _edges(boxes: Boxes, unit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and durations in whole units; what touched still touches."""
    start = boxes.start.astype(np.int64)
    end = (start + boxes.duration.astype(np.int64)) // unit
    return start // unit, end - start // unit


def _kept_from_before(values: NDArray[Any], wanted: NDArray[np.bool_]) -> NDArray[Any]:
    """The values that are wanted; elsewhere the last one before, whose difference is nothing."""
    places = np.maximum.accumulate(np.where(wanted, np.arange(len(values)), 0))
    return values[places]


def _body(arrays: dict[str, NDArray[Any]]) -> _Body:
    places: dict[str, list[Any]] = {}
    content = bytearray()
    for name, array in arrays.items():
        differs = name in _DIFFERENCES
        small = _smallest(_differences(array) if differs else array)
        places[name] = [small.dtype.str[1:], len(content), len(small), differs]
        planes = small.view(np.uint8).reshape(len(small), small.dtype.itemsize).T
        content += planes.tobytes() + bytes(-small.nbytes % _ALIGNMENT)
    return _Body(places=places, content=bytes(content))


def _differences(array: NDArray[Any]) -> NDArray[np.int64]:
    """What each value is more than the one before it, the sign in the lowest bit."""
    values = array.astype(np.int64)
    differences = values - np.concatenate([[0], values[:-1]])
    folded: NDArray[np.int64] = (differences << 1) ^ (differences >> 63)
    return folded


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in as few bytes as hold them; float64 beyond 32 bits, where
    JavaScript has no integers.
    """
    low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
    for dtype in ("<u1", "<u2", "<u4", "<i4"):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return np.ascontiguousarray(array, dtype)
    return np.ascontiguousarray(array, "<f8")
