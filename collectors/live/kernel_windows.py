"""Kernel windows: for some steps out of many, torch.profiler records every operator and kernel.

The profiler (Kineto, CUPTI) starts and stops at step boundaries, which costs those steps some
milliseconds; what it saw is read on the writer thread. Kernels, copies and memsets go to the lane
of their stream, `device:<stream> kernels`; operators of the host to `host:<thread> operators`.
Every event of kind `kernel` comes from here and from nowhere else.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import Any

import numpy as np
import torch
from torch._C._autograd import DeviceType
from torch.autograd import profiler
from torch.profiler import ProfilerActivity, profile

from collectors.live.patches import Patches
from tracer.clocks.wall import both_clocks
from tracer.recorder import Recorder, warn
from tracer.rings import NONE, RECORD_DTYPE
from tracer.schema import KERNELS, LONGEST_KERNEL, OPERATORS, Kind
from tracer.topology import Topology


class KernelWindows:
    """Opens a profiler in the windows that the tracer was given; without any it does nothing."""

    covers = "kernel windows: every operator and kernel of some steps, through torch.profiler"

    def __init__(self) -> None:
        self._open: Any = None
        self._closed: deque[tuple[Any, int]] = deque()
        self._failed = False
        self._patches = Patches()

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Look at each step that begins whether it lies in a window."""
        self._recorder = recorder
        if recorder.kernels is None:
            return
        self._patches.replace(profiler.profile, "_prepare_trace", self._give_way)
        recorder.on_step.append(self._step)
        recorder.on_flush.append(self._convert)
        recorder.on_close.append(self._convert)
        if recorder.step != NONE:
            self._step(recorder.step)

    def uninstall(self) -> None:
        """Close a window that is open."""
        self._stop()
        self._patches.restore()

    def _give_way(self, original: Any) -> Any:
        """A profiler that the user starts while a window is open would raise: close ours first."""

        def traced(own: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                if self._open is not None:
                    self._stop()
            except Exception as error:
                self._recorder.fault(error)
            return original(own, *args, **kwargs)

        return traced

    def _step(self, step: int) -> None:
        window = self._recorder.kernels
        wanted = window is not None and window.holds(step) and not self._recorder.paused
        if not wanted:
            self._stop()
        elif self._open is None and not self._failed:
            self._start()

    def _start(self) -> None:
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            self._give_up("another one is at work")
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        try:
            opened = profile(activities=activities)
            opened.start()
            self._open = opened
        except Exception as error:
            self._give_up(error)

    def _stop(self) -> None:
        if self._open is None:
            return
        opened, self._open = self._open, None
        try:
            opened.stop()
        except Exception as error:
            self._give_up(error)
            with contextlib.suppress(Exception):  # or it would go on to the end of the training
                opened.stop()
            return
        try:
            # Kineto's times are of the wall clock, ours of the monotonic one.
            ours, wall = both_clocks(self._recorder.clock)
            self._closed.append((opened.profiler.kineto_results, ours - wall))
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: BaseException | str) -> None:
        """Somebody else profiles already, or CUPTI is in use: the rest goes on being recorded."""
        self._failed = True
        warn(f"no kernel windows from here on: torch.profiler says {error}")

    def _convert(self) -> None:
        while self._closed:
            results, to_ours = self._closed.popleft()
            threads = {thread.native_id: thread.name for thread in threading.enumerate()}
            rows = [self._row(event, to_ours, threads) for event in results.events()]
            kept = [row for row in rows if row is not None]
            if kept:
                self._recorder.add_late(np.array(kept, RECORD_DTYPE))

    def _row(
        self, event: Any, to_ours: int, threads: dict[int | None, str]
    ) -> tuple[int, ...] | None:
        recorder = self._recorder
        start, duration = event.start_ns() + to_ours, event.duration_ns()
        moment = recorder.moment_of(start)
        if moment is None or duration < 0:
            return None
        if event.device_type() == DeviceType.CPU:
            thread = event.device_resource_id()
            name = "main" if threads.get(thread) == "MainThread" else threads.get(thread, thread)
            lane = f"host:{name}{OPERATORS}"
        else:
            lane = f"device:{event.device_resource_id()}{KERNELS}"
        values = {
            "start": start,
            "duration": duration,
            "step": moment.step,
            "lane": recorder.lanes.intern(lane),
            "kind": int(Kind.KERNEL),
            "is_operation": 1,
            "name": recorder.names.intern(event.name()[:LONGEST_KERNEL]),
        }
        return tuple(values.get(field, NONE) for field in RECORD_DTYPE.names or ())
