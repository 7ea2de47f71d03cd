"""Device time on a device that is made up: there is no GPU here, so a mock stands for torch.cuda.

Its device works through its streams one millisecond per piece of work, on a clock of its own that
is not the host's. What a real GPU does is tested in tests/gpu.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from collectors.live.device_lanes import Devices, hook_captures
from collectors.live.patches import Patches
from tracer.recorder import Recorder
from tracer.rings import NONE, pack_operation
from tracer.schema import Kind

HOST_AHEAD_NS = 1_000_000_000
"""The host's clock minus the device's."""


class FakeCuda:
    """A device with one stream for work and one for the anchors; `now` is its clock in ns."""

    def __init__(self) -> None:
        self.now = 0
        self.reached = 0
        self.capturing = False
        self.made = 0

    def clock(self) -> int:
        return self.now + HOST_AHEAD_NS

    def work(self, nanoseconds: int) -> None:
        self.now += nanoseconds

    def is_initialized(self) -> bool:
        return True

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def current_stream(self) -> Any:
        return SimpleNamespace(device_index=0, cuda_stream=7)

    def Stream(self, device: int) -> Any:  # noqa: N802 - as in torch.cuda
        return SimpleNamespace(device_index=device, cuda_stream=99)

    @contextlib.contextmanager
    def device(self, index: int) -> Iterator[None]:
        yield

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - as in torch.cuda
        assert enable_timing
        self.made += 1
        return FakeEvent(self)


class FakeEvent:
    """Happens when the device's clock comes to the time at which it was recorded."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.at: int | None = None

    def record(self, stream: Any) -> None:
        self.at = self._cuda.now

    def query(self) -> bool:
        assert not self._cuda.capturing, "asked while a graph is captured"
        assert self.at is not None
        return self._cuda.reached >= self.at or self.at == self._cuda.now

    def elapsed_time(self, later: FakeEvent) -> float:
        assert self.at is not None
        assert later.at is not None
        return (later.at - self.at) / 1e6


def _made() -> tuple[FakeCuda, Recorder, Devices]:
    cuda = FakeCuda()
    recorder = Recorder(clock=cuda.clock)
    recorder.active = True
    recorder.step = 3
    return cuda, recorder, Devices(recorder, cuda)


def _rows(recorder: Recorder) -> list[tuple[Any, ...]]:
    return [
        (
            Kind(int(row["kind"])).label,
            recorder.lanes.words[int(row["lane"])],
            int(row["start"]) - HOST_AHEAD_NS,
            int(row["duration"]),
            int(row["step"]),
            int(row["correlation"]),
        )
        for records in recorder.drain()
        for row in records
    ]


def test_work_is_placed_on_the_clock_of_the_host() -> None:
    cuda, recorder, devices = _made()
    cuda.work(5_000_000)
    begin = devices.mark()
    cuda.work(2_000_000)
    devices.worked(begin, Kind.FORWARD, 0, 1, 2)
    recorder.step = 4
    cuda.work(1_000_000)
    cuda.reached = cuda.now
    devices.resolve()

    assert _rows(recorder) == [("forward", "device:7", 5_000_000, 2_000_000, 3, NONE)]
    assert devices.counters() == {"device_clock.0.error/ns": 0.0}


def test_what_the_device_has_not_done_is_asked_for_again_later() -> None:
    cuda, recorder, devices = _made()
    begin = devices.mark()
    cuda.work(2_000_000)
    devices.worked(begin, Kind.FORWARD, 0)
    cuda.reached, cuda.now = 1_000_000, 2_500_000
    devices.resolve()
    assert _rows(recorder) == []

    cuda.reached = 2_500_000
    devices.resolve()
    assert len(_rows(recorder)) == 1


def test_an_operation_is_timed_from_the_call_to_the_end_of_its_wait() -> None:
    cuda, recorder, devices = _made()
    operation = pack_operation(0, 0, 0, 5, 8, 1024, 256, 42, NONE, NONE, 1)
    called = devices.mark()
    devices.issued(called, Kind.COLLECTIVE, operation)
    cuda.work(3_000_000)
    waiting = devices.mark()
    cuda.work(1_000_000)
    devices.waited(waiting, (operation,))
    cuda.reached = cuda.now
    devices.resolve()

    assert _rows(recorder) == [
        ("wait", "device:7", 3_000_000, 1_000_000, 3, 42),
        ("collective", "device:7 communication", 0, 4_000_000, 3, 42),
    ]


def test_a_capture_that_does_not_begin_leaves_nothing_switched_off() -> None:
    _, recorder, devices = _made()

    class Graph:
        def capture_begin(self) -> None:
            raise RuntimeError("another capture is at work")

        def capture_end(self) -> None: ...

    patches = Patches()
    hook_captures(patches, recorder, Graph)
    with pytest.raises(RuntimeError, match="another capture"):
        Graph().capture_begin()

    assert recorder.capturing == 0
    assert devices.mark() is not None


def test_nothing_is_marked_or_asked_while_a_graph_is_captured_but_one_marker() -> None:
    cuda, recorder, devices = _made()

    class Graph:
        def capture_begin(self) -> None:
            cuda.capturing = True

        def capture_end(self) -> None:
            cuda.capturing = False

    own = dict(vars(Graph))
    patches = Patches()
    hook_captures(patches, recorder, Graph)
    begin = devices.mark()
    devices.worked(begin, Kind.FORWARD, 0)
    graph = Graph()
    graph.capture_begin()
    assert devices.mark() is None
    devices.worked(begin, Kind.BACKWARD, 0)
    devices.resolve()
    cuda.work(1_000_000)
    graph.capture_end()
    cuda.reached = cuda.now
    devices.resolve()
    patches.restore()

    kinds = [(kind, lane, duration) for kind, lane, _, duration, *_ in _rows(recorder)]
    assert kinds == [("marker", "host:main", 1_000_000), ("forward", "device:7", 0)]
    assert dict(vars(Graph)) == own


def test_nothing_is_marked_while_recording_is_paused() -> None:
    _, recorder, devices = _made()
    recorder.paused = True

    assert devices.mark() is None


def test_spans_beyond_the_limit_are_given_up_and_counted() -> None:
    cuda, _, devices = _made()
    begin = devices.mark()
    for _ in range((1 << 15) + 10):
        devices.worked(begin, Kind.USER, 0)

    assert devices.counters()["device.given_up"] == 10
    assert cuda.made == (1 << 15) + 11


def test_events_are_used_again() -> None:
    cuda, recorder, devices = _made()
    for _ in range(100):
        begin = devices.mark()
        cuda.work(1_000)
        devices.worked(begin, Kind.FORWARD, 0)
        cuda.reached = cuda.now
        devices.resolve()

    assert len(_rows(recorder)) == 100
    assert cuda.made <= 2 + 5  # one pair, and the tries for the anchor
