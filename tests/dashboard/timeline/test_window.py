"""The window query: what is wide comes singly, what is narrow is summed, nothing is lost."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.timeline.build import build_timeline
from dashboard.timeline.details import event_details
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.window import Window, query
from dashboard.timeline.wire import encode
from tests.support.toy import Event, write_run
from tracer.errors import UsageError
from tracer.schema import KINDS

FORWARD, SEND = KINDS.index("forward"), KINDS.index("send")


def timeline_of(path: Path, *events: Event) -> Timeline:
    """The anchor keeps the times of `events` as they are, since a run starts at its first."""
    anchor = Event(start=0, duration=0, kind="marker", lane="host:anchor")
    return build_timeline(open_run(write_run(path, {0: [anchor, *events]})))


def unpacked(body: bytes) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What assets/timeline/data.mjs reads: the head, and the arrays put together again."""
    (length,) = struct.unpack_from("<I", body)
    head = json.loads(body[4 : 4 + length])
    arrays = {}
    for name, (dtype, offset, count, differs) in head["arrays"].items():
        assert offset % 8 == 0
        size = np.dtype("<" + dtype).itemsize
        planes = np.frombuffer(body, np.uint8, count * size, 4 + length + offset)
        values = np.ascontiguousarray(planes.reshape(size, count).T).view("<" + dtype).ravel()
        if differs:
            folded = values.astype(np.int64)
            values = np.cumsum((folded >> 1) ^ -(folded & 1))
        arrays[name] = values.tolist()
    return head, arrays


def window(start: int, end: int, width: int, rows: tuple[int, int] = (0, 1)) -> Window:
    return Window(start=start, end=end, width=width, first_row=rows[0], end_row=rows[1])


def test_wide_events_come_singly_and_narrow_ones_as_shares_of_a_pixel(tmp_path: Path) -> None:
    # 10 pixels of 10 ns:
    #   forward 0–40                 4 pixels wide          → a box
    #   forward 41–44, send 45–50    3 and 5 ns of pixel 4  → 0.3 and 0.5
    #   send 57–63                   6 ns over pixels 5, 6  → 0.3 and 0.3, counted where it starts
    timeline = timeline_of(
        tmp_path / "run",
        Event(start=0, duration=40, kind="forward", name="F", microbatch=0),
        Event(start=41, duration=3, kind="forward", name="F", microbatch=1),
        Event(start=45, duration=5, kind="send", name="send"),
        Event(start=57, duration=6, kind="send", name="send"),
    )
    picture = query(timeline, window(0, 100, 10))
    boxes, cells = picture.boxes, picture.cells
    assert boxes.start.tolist() == [0.0]
    assert boxes.duration.tolist() == [40.0]
    assert boxes.event.tolist() == [1]
    found = [
        (int(pixel), int(kind), int(count), round(float(fill), 6))
        for pixel, kind, count, fill in zip(
            cells.pixel, cells.kind, cells.count, cells.fill, strict=True
        )
    ]
    assert found == [
        (4, FORWARD, 1, 0.3),
        (4, SEND, 1, 0.5),
        (5, SEND, 1, 0.3),
        (6, SEND, 0, 0.3),
    ]


def test_an_event_that_reaches_into_the_window_is_in_it(tmp_path: Path) -> None:
    timeline = timeline_of(
        tmp_path / "run",
        Event(start=0, duration=50, kind="forward", name="F"),
        Event(start=50, duration=50, kind="forward", name="F"),
    )
    boxes = query(timeline, window(49, 60, 11)).boxes
    assert boxes.start.tolist() == [-49.0, 1.0]
    boxes = query(timeline, window(50, 60, 10)).boxes
    assert boxes.start.tolist() == [0.0]


def test_an_event_without_duration_is_counted_and_fills_nothing(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path / "run", Event(start=7, duration=0, kind="marker", name="m"))
    picture = query(timeline, window(0, 10, 10))
    boxes, cells = picture.boxes, picture.cells
    assert len(boxes.row) == 0
    assert (cells.pixel.tolist(), cells.count.tolist(), cells.fill.tolist()) == ([7], [1], [0.0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    gaps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=60),
    width=st.integers(1, 200),
)
def test_no_time_is_lost_and_the_reply_is_bounded_by_its_pixels(
    tmp_path: Path, gaps: Sequence[tuple[int, int]], width: int
) -> None:
    at, events = 0, []
    for gap, duration in gaps:
        events.append(Event(start=at + gap, duration=duration, kind="forward", name="F"))
        at += gap + duration
    end = at + 1
    timeline = timeline_of(tmp_path / "run", *events)
    picture = query(timeline, window(0, end, width))
    boxes, cells = picture.boxes, picture.cells
    filled = float(cells.fill.astype(np.float64).sum()) * end / width + float(boxes.duration.sum())
    assert filled == pytest.approx(sum(duration for _, duration in gaps), rel=1e-5, abs=1e-5)
    assert len(boxes.row) + int(cells.count.sum()) == len(gaps)
    assert len(boxes.row) <= width + 1
    assert len(cells.row) <= width


def test_the_reply_reads_back_as_it_was_sent(tmp_path: Path) -> None:
    timeline = timeline_of(
        tmp_path / "run",
        Event(start=0, duration=40, kind="forward", name="F", microbatch=5),
        Event(start=41, duration=1, kind="send", name="send"),
    )
    asked = window(0, 100, 1000, (0, 9))
    body = encode(timeline, query(timeline, asked), asked_ns_per_pixel=asked.ns_per_pixel)
    (length,) = struct.unpack_from("<I", body)
    assert (4 + length) % 8 == 0
    head, arrays = unpacked(body)
    assert list(head["names"].values()) == ["F"]  # a box of 10 pixels has no room for its name
    assert arrays["box_start"] == [0.0, 41.0]
    assert arrays["box_duration"] == [40.0, 1.0]
    assert arrays["box_microbatch"] == [5, -1]
    assert arrays["cell_pixel"] == [0]  # the anchor


def test_details_name_every_field_and_the_other_spans_of_the_operation(tmp_path: Path) -> None:
    message = {"group": "pp:0-1", "seq": 0, "bytes": 64, "correlation": 9}
    run = write_run(
        tmp_path / "run",
        {
            0: [Event(start=0, duration=2, kind="send", name="send", peer=1, **message)],
            1: [
                Event(start=0, duration=1, kind="recv", name="recv", peer=0, **message),
                Event(start=1, duration=3, kind="wait", name="recv", peer=0, **message),
            ],
        },
    )
    timeline = build_timeline(open_run(run))
    details = event_details(timeline, 1, 1)
    fields = {field["name"]: field["value"] for field in details["fields"]}
    assert fields == {
        "start": 1, "duration": 3, "kind": "wait", "name": "recv", "lane": "host:main",
        "step": 0, "group": "pp:0-1", "seq": 0, "peer": 0, "bytes": 64, "correlation": 9,
    }  # fmt: skip
    assert relatives(details) == [(1, 0, "recv"), (0, 0, "send")]
    assert relatives(event_details(timeline, 0, 0)) == [(1, 0, "recv")]


def relatives(details: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(event["rank"], event["row"], event["kind"]) for event in details["related"]]


def test_a_collective_leads_to_the_calls_of_its_other_members(tmp_path: Path) -> None:
    def reduce(seq: int, lane: str = "host:main") -> Event:
        return Event(start=seq, duration=1, kind="collective", lane=lane, group="tp:0-18", seq=seq)

    ranks = {rank: [reduce(0), reduce(1), reduce(1, "device:gloo")] for rank in range(19)}
    timeline = build_timeline(open_run(write_run(tmp_path / "run", ranks)))
    details = event_details(timeline, 2, 1)
    assert relatives(details)[:3] == [
        (0, 1, "collective"),
        (1, 1, "collective"),
        (3, 1, "collective"),
    ]
    assert (len(details["related"]), details["left_out"]) == (16, 2)


@pytest.mark.parametrize(("rank", "row"), [(0, 5), (7, 0)])
def test_details_of_no_event(tmp_path: Path, rank: int, row: int) -> None:
    timeline = timeline_of(tmp_path / "run")
    with pytest.raises(UsageError, match=f"rank {rank} has no event {row}"):
        event_details(timeline, rank, row)
