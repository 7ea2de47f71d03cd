"""The hot path: what is written is what was emitted; what ran over is counted, never guessed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tracer.recorder import Recorder
from tracer.rings import NONE, RECORD_DTYPE, Ring, pack_operation
from tracer.schema import Kind
from tracer.spans import Spans


class FakeClock:
    """Advances by one microsecond per reading."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def _recorder(capacity: int = 64) -> Recorder:
    recorder = Recorder(clock=FakeClock(), ring_capacity=capacity)
    recorder.active = True
    return recorder


def _starts(recorder: Recorder) -> list[int]:
    return [int(start) for records in recorder.drain() for start in records["start"]]


def test_a_record_holds_every_field_where_it_belongs() -> None:
    recorder = _recorder()
    recorder.step = 7
    name, group = recorder.names.intern("all_reduce"), recorder.groups.intern("tp:0-1")
    operation = pack_operation(name, 1, 2, group, 1 << 40, 1 << 41, 1 << 39, 1 << 42, 1 << 50, 3, 4)
    recorder.emit_operation(Kind.COLLECTIVE, 10, 20, operation)
    (records,) = recorder.drain()

    assert {field: int(records[0][field]) for field in RECORD_DTYPE.names or ()} == {
        "start": 10,
        "duration": 20,
        "seq": 1 << 40,
        "bytes": 1 << 41,
        "count": 1 << 39,
        "correlation": 1 << 42,
        "flops": 1 << 50,
        "name": name,
        "step": 7,
        "stage": 1,
        "microbatch": 2,
        "peer": 3,
        "group": group,
        "lane": recorder.lanes.intern("host:main"),
        "kind": Kind.COLLECTIVE,
        "is_operation": 1,
        "dtype": 4,
    }


def test_what_is_not_given_is_none() -> None:
    recorder = _recorder()
    recorder.emit(Kind.USER, 0, 1, 2)
    (records,) = recorder.drain()

    absent = ("seq", "bytes", "count", "correlation", "flops", "stage", "microbatch", "peer")
    assert {int(records[0][field]) for field in (*absent, "group", "dtype")} == {NONE}


def test_a_plain_event_in_the_slot_of_an_old_operation_shows_nothing_of_it() -> None:
    recorder = _recorder(2)
    operation = pack_operation(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    for number in range(8):
        recorder.emit_operation(Kind.SEND, number, 0, operation)
        recorder.drain()
        recorder.emit(Kind.USER, 0, number, 0)
        (records,) = recorder.drain()
        absent = ("seq", "bytes", "count", "correlation", "flops", "peer", "group", "dtype")
        assert {int(records[0][field]) for field in absent} == {NONE}


def test_nothing_is_recorded_while_paused_but_the_hooks_stay_on() -> None:
    recorder = _recorder()
    recorder.paused = True
    recorder.emit(Kind.USER, 0, 1, 2)
    recorder.emit_operation(Kind.SEND, 1, 2, pack_operation(*[0] * 11))
    recorder.count("loss", 1.0)
    with Spans(recorder).span(Kind.USER, "idle"):
        pass

    assert recorder.drain() == []
    assert not recorder.counter_values


def test_nothing_is_recorded_while_inactive() -> None:
    recorder = Recorder()
    recorder.emit(Kind.USER, 0, 1, 2)
    with Spans(recorder).span(Kind.USER, "idle"):
        pass

    assert recorder.drain() == []


@pytest.mark.parametrize(
    ("emitted", "kept", "dropped"),
    [(0, 0, 0), (1, 1, 0), (63, 63, 0), (64, 63, 1), (65, 63, 2), (1000, 63, 937)],
)
def test_a_ring_that_runs_over_drops_the_oldest_and_counts_them(
    emitted: int, kept: int, dropped: int
) -> None:
    """64 slots hold 63 records: the slot that may be written next never counts as safe."""
    recorder = _recorder(64)
    for number in range(emitted):
        recorder.emit(Kind.USER, 0, number, 0)

    assert _starts(recorder) == list(range(emitted - kept, emitted))
    assert recorder.dropped == dropped


def test_draining_in_between_loses_nothing_also_round_the_end_of_the_ring() -> None:
    recorder = _recorder(64)
    seen = []
    for batch in range(100):
        for number in range(47):
            recorder.emit(Kind.USER, 0, batch * 47 + number, 0)
        seen += _starts(recorder)

    assert seen == list(range(4700))
    assert recorder.dropped == 0


class _OvertakenRing(Ring):
    """A ring whose owner writes `burst` more records each time the reader looks at its head."""

    __slots__ = ("burst", "emit", "looking")

    def _overwritten(self) -> int:
        if self.burst and not self.looking:
            self.looking = True
            for _ in range(self.burst):
                self.emit()
            self.looking = False
        return super()._overwritten()


@pytest.mark.parametrize("burst", [1, 5, 40, 63, 64, 200])
def test_a_reader_that_is_overtaken_while_draining_keeps_no_torn_record(burst: int) -> None:
    recorder = _recorder(64)
    recorder.emit(Kind.USER, 0, 0, 0)
    emitted = iter(range(1, 1 << 20))
    ring = _OvertakenRing(64, 0)
    recorder._rings[:] = [ring]
    recorder.local.ring, recorder.local.lap = ring, ring.lap
    ring.looking, ring.burst = False, 0
    ring.emit = lambda: recorder.emit(Kind.USER, 0, next(emitted), 0)
    for _ in range(50):
        ring.emit()
    ring.burst = burst
    seen = _starts(recorder)
    ring.burst = 0
    seen += _starts(recorder)
    last = next(emitted) - 1

    assert seen == sorted(set(seen))
    assert seen[-1] == last
    assert len(seen) + recorder.dropped == last


def test_a_thread_that_writes_faster_than_it_is_read_loses_only_what_is_counted() -> None:
    recorder = _recorder(256)
    total = 60_000

    def write() -> None:
        for number in range(1, total + 1):
            operation = pack_operation(0, 0, 0, 0, number, 2 * number, 0, 0, 0, 0, 0)
            recorder.emit_operation(Kind.SEND, number, -number, operation)

    writer = threading.Thread(target=write, name="busy")
    writer.start()
    taken = []
    while writer.is_alive():
        taken += recorder.drain()
    taken += recorder.drain()
    records = np.concatenate(taken)

    assert np.all(np.diff(records["start"]) > 0)
    assert np.array_equal(records["duration"], -records["start"])
    assert np.array_equal(records["seq"], records["start"])
    assert np.array_equal(records["bytes"], 2 * records["start"])
    assert len(records) + recorder.dropped == total


def test_each_thread_has_a_lane_of_its_own() -> None:
    recorder = _recorder()
    recorder.emit(Kind.USER, 0, 1, 0)
    other = threading.Thread(target=recorder.emit, args=(Kind.USER, 0, 2, 0), name="loader")
    other.start()
    other.join()
    lanes = {int(r["start"]): int(r["lane"]) for records in recorder.drain() for r in records}

    assert {start: recorder.lanes.words[lane] for start, lane in lanes.items()} == {
        1: "host:main",
        2: "host:loader",
    }


def test_the_ring_of_a_thread_that_has_ended_is_drained_and_let_go() -> None:
    recorder = _recorder(64)

    def work() -> None:
        for number in range(100):
            recorder.emit(Kind.USER, 0, number, 0)

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert _starts(recorder) == list(range(37, 100))

    assert recorder._rings == []
    assert recorder.dropped == 3 * 37


def test_a_span_closes_on_an_exception_and_takes_two_clock_readings() -> None:
    recorder = _recorder()
    recorder.stage, recorder.microbatch = 1, 5
    with pytest.raises(KeyError), Spans(recorder).span(Kind.DATA, "load"):
        raise KeyError
    (records,) = recorder.drain()

    assert (int(records[0]["start"]), int(records[0]["duration"])) == (1000, 1000)
    assert (int(records[0]["stage"]), int(records[0]["microbatch"])) == (1, 5)
    assert int(records[0]["kind"]) == Kind.DATA


def test_a_fault_stops_the_recording_and_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = _recorder()
    recorder.emit(Kind.USER, 0, 1, 0)
    recorder.fault(ValueError("first"))
    recorder.fault(ValueError("second"))
    recorder.emit(Kind.USER, 0, 2, 0)

    assert recorder.failure == "ValueError: first"
    assert _starts(recorder) == [1]
    said = capsys.readouterr().err
    assert said.count("rankscope:") == 1
    assert "ValueError: first" in said
    assert "second" not in said


def test_correlations_are_unique_across_threads() -> None:
    recorder = _recorder()
    taken: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: taken.extend(recorder.next_correlation() for _ in range(5000))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(taken)) == len(taken) == 20_000


def test_a_ring_must_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="100 is not a power of two"):
        Ring(100, 0)
