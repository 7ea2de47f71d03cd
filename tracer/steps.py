"""Where one training step ends and the next begins; the windows tile without a gap."""

from __future__ import annotations

from collections.abc import Callable

from tracer.recorder import NONE, Recorder
from tracer.schema import Kind


class Steps:
    """Counts steps and records one `step` event for each that is complete.

    Told (`automatic` false): `end` is called where the user says so, and the first window
    begins at `begin`. Automatic: the first window begins with the first compute; a window ends
    where the first compute after an optimizer step begins, the last one where the last
    optimizer step ends. Events before the first window have no step.
    """

    def __init__(
        self, recorder: Recorder, *, automatic: bool, on_end: Callable[[], None] = lambda: None
    ) -> None:
        self._recorder = recorder
        self._automatic = automatic
        self._on_end = on_end
        self._started: int | None = None
        self._optimizer_ended: int | None = None

    def begin(self) -> None:
        """Recording begins now."""
        if self._automatic:
            self._recorder.step = NONE
            self._recorder.on_compute = self._compute_begins
            self._recorder.on_optimizer = self._optimizer_ends
        else:
            self._recorder.step = 0
            self._started = self._recorder.clock()

    def end(self) -> None:
        """The step ends here because the user says so."""
        if self._automatic:
            self._leave_automatic()
        self._close(self._recorder.clock())

    def finish(self) -> None:
        """Recording ends now: an automatic step that had its optimizer step is complete."""
        if self._automatic and self._optimizer_ended is not None:
            self._close(self._optimizer_ended)

    def _leave_automatic(self) -> None:
        self._automatic = False
        self._recorder.on_compute = self._recorder.on_optimizer = None
        if self._started is None:
            self._started, self._recorder.step = self._recorder.clock(), 0

    def _compute_begins(self) -> None:
        if self._started is None:
            self._started, self._recorder.step = self._recorder.clock(), 0
        elif self._optimizer_ended is not None:
            self._close(self._recorder.clock())

    def _optimizer_ends(self) -> None:
        if self._started is not None:
            self._optimizer_ended = self._recorder.clock()

    def _close(self, now: int) -> None:
        if self._started is None:
            return
        recorder = self._recorder
        started, self._started, self._optimizer_ended = self._started, now, None
        recorder.emit(Kind.STEP, recorder.names.intern("step"), started, now - started)
        recorder.step += 1
        self._on_end()
