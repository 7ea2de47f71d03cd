"""The timeline's reply to the browser: a JSON head and typed arrays that need no parsing.

uint32  length of the head
head    JSON: window, names of the boxes, and per array its name, type, offset and length
arrays  little-endian, each at a multiple of 8 bytes from the start of the first
"""

from __future__ import annotations

import json
import struct
from dataclasses import fields
from typing import Any, Final

import numpy as np

from dashboard.timeline.lanes import Timeline
from dashboard.timeline.window import Boxes, Cells, Window

_ALIGNMENT: Final = 8
_LABEL_PIXELS: Final = 28
"""Boxes narrower than this have no room for a name, so that names need not be sent."""


def encode(timeline: Timeline, window: Window, boxes: Boxes, cells: Cells) -> bytes:
    """The reply for a window; assets/timeline/data.mjs reads it."""
    arrays = {f"box_{f.name}": getattr(boxes, f.name) for f in fields(Boxes)}
    arrays |= {f"cell_{f.name}": getattr(cells, f.name) for f in fields(Cells)}
    places: dict[str, list[Any]] = {}
    body = bytearray()
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        places[name] = [little.dtype.str[1:], len(body), len(little)]
        body += little.tobytes() + bytes(-little.nbytes % _ALIGNMENT)
    wide = boxes.duration >= _LABEL_PIXELS * window.ns_per_pixel
    head = {
        "start": window.start,
        "end": window.end,
        "width": window.width,
        "first_row": window.first_row,
        "end_row": window.end_row,
        "names": {int(code): timeline.names[code] for code in np.unique(boxes.name[wide])},
        "arrays": places,
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + struct.calcsize("<I")) % _ALIGNMENT)
    return struct.pack("<I", len(text)) + text + bytes(body)
