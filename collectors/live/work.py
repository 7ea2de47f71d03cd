"""A piece of work of a pipeline: what happens inside it carries its stage and microbatch."""

from __future__ import annotations

from tracer.recorder import Recorder
from tracer.schema import Kind


class Work:
    """Work at hand from its construction on, until `end`."""

    __slots__ = ("_mark", "_outer", "_recorder", "_start", "microbatch", "stage")

    def __init__(self, recorder: Recorder, stage: int, microbatch: int) -> None:
        self._recorder = recorder
        self._outer = recorder.stage, recorder.microbatch
        self.stage = stage
        self.microbatch = microbatch
        recorder.stage, recorder.microbatch = stage, microbatch
        recorder.working += 1
        self._mark = None if recorder.device is None else recorder.device.mark()
        self._start = recorder.clock()

    def end(self, kind: Kind | None, name: str) -> None:
        """Give stage and microbatch back, and record the work if it has a kind."""
        recorder = self._recorder
        duration = recorder.clock() - self._start
        recorder.stage, recorder.microbatch = self._outer
        recorder.working -= 1
        if kind is None:
            return
        index = recorder.names.intern(name)
        recorder.emit(
            kind, index, self._start, duration, stage=self.stage, microbatch=self.microbatch
        )
        if recorder.device is not None:
            recorder.device.worked(self._mark, kind, index, self.stage, self.microbatch)
