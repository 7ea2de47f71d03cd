"""Windows from afar: what is looked up equals what a scan of all events gives."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import open_run
from dashboard.timeline.build import build_timeline
from dashboard.timeline.lanes import Timeline
from dashboard.timeline.occupancy import FULL, Occupancy, level_for
from dashboard.timeline.segments import first_at_or_after, ranges, touching
from dashboard.timeline.window import MOST_FILLS, Window, merged, query
from dashboard.timeline.wire import encode
from tests.dashboard.timeline.test_window import unpacked
from tests.support.toy import Event, write_run
from tracer.schema import KINDS

FORWARD, SEND = KINDS.index("forward"), KINDS.index("send")
Spans = Sequence[tuple[int, int, str]]


def timeline_of(path: Path, spans: Spans) -> Timeline:
    """Gap before, duration and kind of the events of one lane, one after the other."""
    at, events = 0, []
    for gap, duration, kind in spans:
        events.append(Event(start=at + gap, duration=duration, kind=kind, name=kind))
        at += gap + duration
    return build_timeline(open_run(write_run(path / "run", {0: events})), few_events=0)


def occupancy_of(timeline: Timeline) -> Occupancy:
    assert timeline.occupancy is not None
    return timeline.occupancy


def test_each_bin_holds_the_share_that_shorter_events_fill(tmp_path: Path) -> None:
    # The run is 4,096 ns, cut into 1,024 bins of 5 ns (4,096 // 1,024 + 1). In bins of 20 ns:
    #   forward 0–4, 10–16     bin 0: 10 of 20 ns
    #   send 30–50             bins 1, 2: 20 ns long, so a box of its own
    #   forward 58–62          bins 2, 3: 2 of 20 ns each
    #   marker 70              bin 3: nothing of it, but it is there
    timeline = timeline_of(
        tmp_path,
        [
            (0, 4, "forward"),
            (6, 6, "forward"),
            (14, 20, "send"),
            (8, 4, "forward"),
            (8, 0, "marker"),
            (4_026, 0, "marker"),
        ],
    )
    assert (timeline.span, occupancy_of(timeline).base) == ((0, 4_096), 5)
    picture = query(timeline, Window(start=0, end=80, width=4, first_row=0, end_row=1))
    assert picture.fills is not None
    assert [KINDS[kind] for kind in picture.fills.kind] == ["forward", "send", "marker"]
    assert picture.fills.fill.tolist() == [
        [round(FULL * 10 / 20), 0, round(FULL * 2 / 20), round(FULL * 2 / 20)],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
    ]
    assert picture.boxes.start.tolist() == [30.0]
    assert picture.boxes.kind.tolist() == [SEND]
    assert len(picture.cells.row) == 0

    found = merged(timeline, 0, 0, 20)
    assert (found.count[FORWARD], found.busy[FORWARD], found.events.tolist()) == (2, 10, [0])


SPANS = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.one_of(st.integers(0, 8), st.integers(0, 900)),
        st.sampled_from(("forward", "send", "user")),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(spans=SPANS, width=st.integers(1, 300), edges=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_what_is_looked_up_equals_a_scan_of_all_events(
    spans: Spans, width: int, edges: tuple[float, float]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        timeline = timeline_of(Path(directory), spans)
    length = timeline.span[1] - timeline.span[0]
    begin = int(min(edges) * length) - 5
    asked = Window(
        start=begin, end=begin + 1 + int(max(edges) * length), width=width, first_row=0, end_row=1
    )
    picture = query(timeline, asked)
    level = level_for(occupancy_of(timeline), asked.ns_per_pixel)
    assert (picture.fills is None) == (level < 0)
    assert picture.window.start <= asked.start
    assert picture.window.end >= asked.end
    if picture.fills is None:
        return
    fills, window = picture.fills, picture.window
    assert fills.bin <= asked.ns_per_pixel < 2 * fills.bin or fills.bin > length
    assert window.end - window.start == fills.bin * window.width

    # An event without duration lies in a deeper row if the next one begins at the same time.
    row = slice(*timeline.offsets[:2])
    starts, durations = timeline.start[row], timeline.duration[row]
    wide = [
        (start, duration)
        for start, duration in zip(starts.tolist(), durations.tolist(), strict=True)
        if duration >= fills.bin and start < window.end and start + duration > window.start
    ]
    boxes = zip(picture.boxes.start, picture.boxes.duration, strict=True)
    assert [(int(start) + window.start, int(duration)) for start, duration in boxes] == wide

    scanned = np.zeros((len(KINDS), window.width))
    touched = np.zeros((len(KINDS), window.width), bool)
    bins = window.start + fills.bin * np.arange(window.width)
    for start, duration, kind in zip(starts, durations, timeline.kind[row], strict=True):
        if duration < fills.bin:
            inside = np.minimum(start + duration, bins + fills.bin) - np.maximum(start, bins)
            scanned[kind] += np.maximum(inside, 0)
            touched[kind] |= (inside > 0) | ((bins <= start) & (start < bins + fills.bin))
    shares = np.maximum(np.rint(scanned * (FULL / fills.bin)), touched).astype(np.uint16)
    assert np.array_equal(fills.fill, shares[fills.kind])


def test_the_reply_from_afar_reads_back(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path, [(1, 3, "forward"), (0, 2, "send")] * 2_000)
    picture = query(timeline, Window(start=0, end=12_000, width=100, first_row=0, end_row=1))
    assert picture.fills is not None
    head, arrays = unpacked(encode(timeline, picture, asked_ns_per_pixel=120))
    assert (arrays["fill_row"], arrays["fill_kind"]) == ([0, 0], [FORWARD, SEND])
    assert head["width"] == picture.window.width
    shares = np.array(arrays["fill_share"]).reshape(2, head["width"]) / head["grades"]
    assert np.all(shares >= picture.fills.fill / FULL)
    assert np.all(shares < picture.fills.fill / FULL + 1 / head["grades"])
    assert shares.mean(axis=1) == pytest.approx([1 / 2, 1 / 3], abs=0.02)


def test_many_boxes_come_rounded_to_a_sixteenth_of_a_pixel(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path, [(40, 1_960, "forward")] * 5_000)
    asked = Window(start=0, end=10_000_000, width=10_000, first_row=0, end_row=1)
    picture = query(timeline, asked)
    head, arrays = unpacked(encode(timeline, picture, asked_ns_per_pixel=asked.ns_per_pixel))
    assert 16 * head["unit"] <= picture.window.ns_per_pixel < 32 * head["unit"]
    start = np.array(arrays["box_start"]) * head["unit"]
    end = start + np.array(arrays["box_duration"]) * head["unit"]
    exact = picture.boxes.start
    assert len(start) == 5_000
    assert np.all((start <= exact) & (exact < start + head["unit"]))
    assert np.all(np.abs(end - exact - picture.boxes.duration) < head["unit"])


def test_a_reply_of_very_many_rows_gets_wider_bins(tmp_path: Path) -> None:
    lanes = [
        Event(start=lane, duration=1_000_000, kind="user", lane=f"host:{lane}")
        for lane in range(2_000)
    ]
    run = open_run(write_run(tmp_path / "run", {0: lanes}))
    timeline = build_timeline(run, few_events=0)
    picture = query(timeline, Window(start=0, end=1_000_000, width=700, first_row=0, end_row=2_000))
    assert picture.fills is not None
    assert picture.fills.fill.size <= MOST_FILLS + 2 * 2_000  # a bin more at either edge
    assert len(picture.boxes.row) == 2_000


def test_searching_pieces_of_an_array() -> None:
    values = np.array([1, 5, 9, 2, 3])
    low, high = np.array([0, 3, 3]), np.array([3, 5, 3])
    assert first_at_or_after(values.__getitem__, low, high, 4).tolist() == [1, 5, 3]
    assert ranges(np.array([3, 7, 7]), np.array([5, 7, 9])).tolist() == [3, 4, 7, 8]

    start, duration = np.array([0, 10, 20]), np.array([5, 5, 5])
    of_all = (np.array([0]), np.array([3]))
    for begin, end, wanted in ((4, 10, (0, 1)), (5, 10, (1, 1)), (5, 11, (1, 2)), (30, 31, (3, 3))):
        first, last = touching(start.__getitem__, duration.__getitem__, *of_all, begin, end)
        assert (first[0], last[0]) == wanted
