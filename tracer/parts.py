"""What works beside the training while it is recorded: writer, clocks, signals, collectors.

They are started in one order and ended in another, whatever one of them raises meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from tracer import environment
from tracer.about import AboutTheRun
from tracer.black_box import BlackBox, Watch
from tracer.clocks.exchange import ClockExchange
from tracer.protocol import Collector
from tracer.recorder import Recorder
from tracer.run_files import RankFacts
from tracer.signals import Signals
from tracer.steps import Steps
from tracer.writer import Writer

ENTRY_POINTS: Final = "rankscope.collectors"

_recordings = 0
"""Recordings that this process has begun: their number tells them apart on all ranks."""


class Parts:
    """Those of one recording; `collectors` are sources of events instead of all installed ones."""

    def __init__(
        self,
        recorder: Recorder,
        about: AboutTheRun,
        steps: Steps,
        *,
        collectors: Sequence[Collector] | None,
        watch: Watch | None,
    ) -> None:
        self._recorder = recorder
        self._about = about
        self._steps = steps
        self._collectors = collectors
        self._watch = watch
        self._installed: list[Collector] = []
        self._writer: Writer | None = None
        self._clocks: ClockExchange | None = None
        self.box: BlackBox | None = None
        self.signals: Signals | None = None
        self.endings = (
            self._uninstall,
            self._finish_clocks,
            self._stop_writer,
            self._stop_signals,
            self._close_clocks,
        )
        """What is to be called when the recording ends, in this order; each may be called twice."""

    def start(
        self,
        path: Path,
        *,
        facts: Callable[[], RankFacts],
        flush_interval_s: float,
        mesh: Any,
        schedule: Any,
    ) -> None:
        """Begin to record into `path`; `mesh` and `schedule` are those that the user named."""
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise RuntimeError("free-threaded Python is not supported")
        recorder, topology = self._recorder, self._about.topology
        if self._watch is not None:
            self.box = BlackBox(recorder, self._watch, is_paused=lambda: self._steps.is_paused)
            self.signals = Signals()
        self._writer = Writer(
            path,
            recorder,
            facts=facts,
            on_facts=lambda: self._about.write_meta(path),
            flush_interval_s=flush_interval_s,
            box=self.box,
            signals=self.signals,
        )
        self._writer.start()
        if self.signals is not None:
            self.signals.install()
        self._start_clocks(path)
        self._steps.begin()
        if mesh is not None:
            topology.note_mesh(mesh)
        found = _installed_collectors() if self._collectors is None else self._collectors
        for collector in found:
            self._installed.append(collector)
            collector.install(recorder, topology)
        if schedule is not None:
            recorder.describe_schedule(schedule)
        recorder.active = recorder.failure is None

    def _start_clocks(self, path: Path) -> None:
        global _recordings
        _recordings += 1
        topology = self._about.topology
        if topology.world_size > 1:
            self._clocks = ClockExchange(
                self._recorder,
                rank=topology.rank,
                clock_id=environment.boot_id(),
                key=f"{self._about.run_id}/{path.name}/{_recordings}",
            )
            self._clocks.start()

    def _uninstall(self) -> None:
        """Take out every hook, the last one first, whatever one of them raises; then raise it."""
        problem: Exception | None = None
        for collector in self._installed[::-1]:
            try:
                collector.uninstall()
                self._installed.remove(collector)
            except Exception as error:
                problem = error
        if problem is not None:
            raise problem

    def _finish_clocks(self) -> None:
        if self._clocks is not None:
            self._clocks.finish()

    def _stop_writer(self) -> None:
        if self._writer is not None:
            self._writer.stop()

    def _stop_signals(self) -> None:
        if self.signals is not None:
            self.signals.uninstall()

    def _close_clocks(self) -> None:
        if self._clocks is not None:
            self._clocks.close()


def _installed_collectors() -> list[Collector]:
    found = [entry.load()() for entry in entry_points(group=ENTRY_POINTS)]
    if not found:
        raise RuntimeError(
            "no collectors: Rankscope is on the path but not installed; pip install it here"
        )
    return found
