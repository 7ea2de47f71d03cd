"""Garbage collections: recorded where they happened, and nothing is left of us afterwards."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from collectors.live.garbage import SHORTEST_NS, GarbageCollections
from tests.support.reading import rows
from tracer import Tracer
from tracer.recorder import Recorder
from tracer.schema import GARBAGE_COLLECTION
from tracer.topology import Topology

_MANY = 200_000
"""Lists: some ms to look through."""


class _Clock:
    """Goes on by as much as it is told to."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


def _installed(clock: _Clock) -> tuple[Recorder, GarbageCollections, Any]:
    recorder = Recorder(clock=clock)
    collector = GarbageCollections()
    gc.disable()
    try:
        before = len(gc.callbacks)
        collector.install(recorder, Topology(rank=0, world_size=1))
        listen = gc.callbacks[before]
    finally:
        gc.enable()
    recorder.active = True
    return recorder, collector, listen


def _pause(listen: Any, clock: _Clock, duration: int) -> None:
    listen("start", {})
    clock.now += duration
    listen("stop", {})


def test_only_pauses_that_can_be_seen_are_recorded_and_they_carry_what_was_at_work() -> None:
    clock = _Clock()
    recorder, collector, listen = _installed(clock)
    collector.uninstall()
    recorder.step, recorder.stage, recorder.microbatch = 3, 1, 2
    _pause(listen, clock, SHORTEST_NS - 1)
    _pause(listen, clock, SHORTEST_NS)
    recorder.on_flush[0]()
    (records,) = recorder.drain()
    assert records["start"].tolist() == [1_000 + SHORTEST_NS - 1]
    assert records["duration"].tolist() == [SHORTEST_NS]
    assert [records[name][0] for name in ("step", "stage", "microbatch")] == [3, 1, 2]
    assert recorder.names.words[records["name"][0]] == GARBAGE_COLLECTION
    assert recorder.lanes.words[records["lane"][0]] == "host:main"


def test_nothing_is_recorded_of_a_pause_that_began_before_or_ends_after_the_recording() -> None:
    clock = _Clock()
    recorder, collector, listen = _installed(clock)
    collector.uninstall()
    listen("stop", {})
    recorder.paused = True
    _pause(listen, clock, SHORTEST_NS)
    recorder.paused = False
    listen("start", {})
    recorder.active = False
    clock.now += SHORTEST_NS
    listen("stop", {})
    recorder.on_flush[0]()
    assert recorder.drain() == []


def test_a_real_collection_lies_in_its_step_and_the_callbacks_are_as_before(tmp_path: Path) -> None:
    before = list(gc.callbacks)
    held: list[list[int]] = [[] for _ in range(_MANY)]
    with Tracer(tmp_path / "run", collectors=[GarbageCollections()]) as t:
        t.step()
        gc.collect()
        t.step()
    assert gc.callbacks == before
    assert len(held) == _MANY  # there to be looked through until now
    found = rows(tmp_path / "run", 0, name=GARBAGE_COLLECTION)
    (window,) = rows(tmp_path / "run", 0, kind="step", step=1)
    inside = [row for row in found if row["step"] == 1]
    assert inside
    for row in inside:
        assert (row["kind"], row["lane"]) == ("user", "host:main")
        assert window["start"] <= row["start"]
        assert row["start"] + row["duration"] <= window["start"] + window["duration"]
