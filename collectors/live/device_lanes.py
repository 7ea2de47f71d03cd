"""Device time: the same spans again, as the device carried them out, on lanes of their own.

Each piece of work records an event from a pool before and after itself on its current stream;
nobody waits for them. The writer thread asks later which ones have happened and turns them into
ns of the host's clock, through an anchor: an event on a stream of ours with nothing else in it,
recorded between two readings of the host's clock and renewed every few seconds.

An operation of communication is timed on the stream that needs it: from where that stream came
to the call, to where its wait was over (the transfer cannot have begun earlier nor ended
later), and how long the stream was held up. Nothing is recorded while a graph is captured.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from collectors.live.patches import Patches
from tracer.recorder import Recorder
from tracer.rings import NONE, OPERATION_DTYPE, RECORD_DTYPE, Operation
from tracer.schema import Kind
from tracer.topology import Topology

_MOST_PENDING: Final = 1 << 15
"""Spans that wait for the device; beyond, the oldest are given up and counted."""

_ANCHOR_NS: Final = 2_000_000_000
"""The age at which an anchor is renewed. `elapsed_time` is a float32 of milliseconds: after two
seconds its steps are 0.12 µs."""

_ANCHOR_TRIES: Final = 5
_ANCHOR_WAIT_NS: Final = 2_000_000
_LAST_WAIT_S: Final = 5.0
"""How long the end of the recording waits for the device to finish what it was given."""

_BATCH: Final = 64
"""Spans that are looked at before a capture that wants to begin gets its turn."""


class Mark(NamedTuple):
    """An event on a stream: when the device came to this point."""

    event: Any
    device: int
    stream: int


@dataclass(slots=True)
class _Anchor:
    """An event at a known time of the host: `host` ± `error` ns."""

    event: Any
    host: int
    error: int


class _Pending(NamedTuple):
    begin: Mark
    end: Mark
    kind: int
    lane: str
    step: int
    name: int
    stage: int
    microbatch: int
    operation: Operation | None


class Devices:
    """Marks points on streams and resolves them. `cuda` is `torch.cuda` or stands for it."""

    def __init__(self, recorder: Recorder, cuda: Any) -> None:
        self._recorder = recorder
        self._cuda = cuda
        self._pool: deque[Any] = deque()
        self._pending: deque[_Pending] = deque()
        self._issued: dict[Operation, tuple[int, Mark]] = {}
        self._anchors: dict[int, _Anchor] = {}
        self._streams: dict[int, Any] = {}
        self.given_up = 0

    def mark(self) -> Mark | None:
        """Where the current stream is now; None before CUDA is in use, and during a capture."""
        cuda = self._cuda
        recorder = self._recorder
        if recorder.capturing or recorder.paused or not cuda.is_initialized():
            return None
        if cuda.is_current_stream_capturing():
            return None
        try:
            event = self._pool.pop()
        except IndexError:
            event = cuda.Event(enable_timing=True)
        stream = cuda.current_stream()
        event.record(stream)
        return Mark(event, stream.device_index, stream.cuda_stream)

    def worked(
        self, begin: Mark | None, kind: int, name: int, stage: int = NONE, microbatch: int = NONE
    ) -> None:
        """The work that began at `begin` has been launched up to here."""
        end = self.mark() if begin is not None else None
        if begin is not None and end is not None:
            lane = f"device:{begin.stream}"
            step = self._recorder.step
            self._add(_Pending(begin, end, kind, lane, step, name, stage, microbatch, None))

    def issued(self, begin: Mark | None, kind: int, operation: Operation) -> None:
        """The stream came to this operation at `begin`; `waited` will tell the rest."""
        if begin is not None:
            if len(self._issued) >= _MOST_PENDING:
                self._issued.clear()
            self._issued[operation] = kind, begin

    def waited(self, begin: Mark | None, operations: tuple[Operation, ...]) -> None:
        """The stream waited for these operations from `begin` up to here."""
        end = self.mark() if begin is not None else None
        if begin is None or end is None:
            return
        step = self._recorder.step
        for operation in operations:
            wait = int(Kind.WAIT), f"device:{begin.stream}", step, NONE, NONE, NONE, operation
            self._add(_Pending(begin, end, *wait))
            kind, came = self._issued.pop(operation, (NONE, None))
            if came is not None:
                whole = kind, f"device:{came.stream} communication", step, NONE, NONE, NONE
                self._add(_Pending(came, end, *whole, operation))

    def resolve(self) -> None:
        """Turn what has happened on the devices into records. For the writer thread."""
        rows: list[tuple[int, ...]] = []
        while self._pending and not self._recorder.capturing:
            with self._recorder.device_lock:
                if self._recorder.capturing or not self._resolve_batch(rows):
                    break
        if rows:
            self._recorder.add_late(np.array(rows, RECORD_DTYPE))

    def resolve_last(self) -> None:
        """The same when the training has ended: wait a little for the device, asking only."""
        deadline = time.monotonic() + _LAST_WAIT_S
        self.resolve()
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.01)
            self.resolve()
        self.given_up += len(self._pending)

    def counters(self) -> dict[str, float]:
        """The error of the anchors, and the spans that were given up."""
        errors = {
            f"device_clock.{device}.error/ns": float(anchor.error)
            for device, anchor in self._anchors.items()
        }
        return errors | ({"device.given_up": float(self.given_up)} if self.given_up else {})

    def _add(self, pending: _Pending) -> None:
        if len(self._pending) >= _MOST_PENDING:
            self._pending.popleft()
            self.given_up += 1
        self._pending.append(pending)

    def _resolve_batch(self, rows: list[tuple[int, ...]]) -> bool:
        """Resolve up to `_BATCH` spans; False when the device has not come to the next one."""
        for _ in range(_BATCH):
            if not self._pending:
                return False
            span = self._pending[0]
            if not span.end.event.query():
                return False
            anchor = self._anchor(span.begin.device)
            if anchor is None:
                return False
            self._pending.popleft()
            rows.append(self._row(span, anchor))
            if span.operation is None:  # its marks belong to no other span
                self._pool += (span.begin.event, span.end.event)
        return True

    def _row(self, span: _Pending, anchor: _Anchor) -> tuple[int, ...]:
        start = anchor.host + round(anchor.event.elapsed_time(span.begin.event) * 1e6)
        duration = max(0, round(span.begin.event.elapsed_time(span.end.event) * 1e6))
        values = {
            "start": start,
            "duration": duration,
            "step": span.step,
            "lane": self._recorder.lanes.intern(span.lane),
            "kind": span.kind,
            "is_operation": int(span.operation is not None),
            "name": span.name,
            "stage": span.stage,
            "microbatch": span.microbatch,
        }
        if span.operation is not None:
            fields = np.frombuffer(span.operation, OPERATION_DTYPE)[0]
            values |= {field: int(fields[field]) for field in OPERATION_DTYPE.names or ()}
        return tuple(values.get(field, NONE) for field in RECORD_DTYPE.names or ())

    def _anchor(self, device: int) -> _Anchor | None:
        known = self._anchors.get(device)
        if known is None or self._recorder.clock() - known.host > _ANCHOR_NS:
            fresh = self._fresh_anchor(device)
            if fresh is not None:
                self._anchors[device] = known = fresh
                sample = fresh.host, f"device:{device}", 0, fresh.error
                self._recorder.clock_samples.append(sample)
        return known

    def _fresh_anchor(self, device: int) -> _Anchor | None:
        """The tightest of some tries; None if the device did not come to it in time."""
        best: _Anchor | None = None
        with self._cuda.device(device):
            if device not in self._streams:
                self._streams[device] = self._cuda.Stream(device)
            for _ in range(_ANCHOR_TRIES):
                event = self._cuda.Event(enable_timing=True)
                before = self._recorder.clock()
                event.record(self._streams[device])
                while not event.query():
                    if self._recorder.clock() - before > _ANCHOR_WAIT_NS:
                        break
                after = self._recorder.clock()
                if after - before > _ANCHOR_WAIT_NS:
                    continue
                tried = _Anchor(event, (before + after) // 2, (after - before + 1) // 2)
                if best is None or tried.error < best.error:
                    best = tried
        return best


class DeviceLanes:
    """Records what the GPU did of all that the other collectors record; nothing without CUDA."""

    covers = "CUDA: device time of work and communication, per stream"

    def __init__(self) -> None:
        self._patches = Patches()
        self._recorder: Recorder | None = None

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Offer marks to the hooks if this torch can use a GPU here."""
        import torch

        if torch.version.cuda is None or not torch.cuda.is_available():
            return
        self._recorder = recorder
        devices = Devices(recorder, torch.cuda)
        recorder.device = devices
        recorder.on_flush.append(devices.resolve)
        recorder.on_close.append(devices.resolve_last)
        recorder.samplers.append(devices.counters)
        hook_captures(self._patches, recorder, torch.cuda.CUDAGraph)

    def uninstall(self) -> None:
        """Take the marks away; what is on its way is still resolved."""
        self._patches.restore()
        if self._recorder is not None:
            self._recorder.device = None


def hook_captures(patches: Patches, recorder: Recorder, graph_class: type) -> None:
    """Record nothing while a graph is captured but one marker for the whole capture.

    A capture also forbids other threads to ask for events, so it begins when the resolver is
    between two batches.
    """
    name = recorder.names.intern("CUDA graph capture")
    started: list[int] = []

    def begins(original: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*args: Any, **kwargs: Any) -> Any:
            with recorder.device_lock:
                recorder.capturing += 1
            try:
                started.append(recorder.clock())
            except Exception as error:
                recorder.fault(error)
            try:
                return original(*args, **kwargs)
            except BaseException:  # it has not begun, so that nobody will end it
                recorder.capturing = max(0, recorder.capturing - 1)
                started.clear()
                raise

        return traced

    def ends(original: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            finally:
                recorder.capturing = max(0, recorder.capturing - 1)
                try:
                    if started:
                        begun = started.pop()
                        recorder.emit(int(Kind.MARKER), name, begun, recorder.clock() - begun)
                except Exception as error:
                    recorder.fault(error)

        return traced

    patches.replace(graph_class, "capture_begin", begins)
    patches.replace(graph_class, "capture_end", ends)
