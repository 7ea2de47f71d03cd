"""Where one training step ends and the next begins; the windows tile without a gap."""

from __future__ import annotations

from collections.abc import Callable

from tracer.recorder import Recorder
from tracer.rings import NONE
from tracer.schema import Kind


class Steps:
    """Counts steps and records one `step` event for each that is complete.

    Told (`automatic` false): `end` is called where the user says so, and the first window
    begins at `begin`. Automatic: the first window begins with the first compute; a window ends
    where the first compute after an optimizer step begins, the last one where the last
    optimizer step ends. Events before the first window have no step.

    Of every `every` steps the first is recorded, and between the others nothing is. A step in
    which the user pauses the recording after something was recorded gets no `step` event, since
    its window would not tell what happened in it.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        automatic: bool,
        every: int = 1,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._recorder = recorder
        self._automatic = automatic
        self._every = every
        self._on_end = on_end
        self._pauses = 0
        self._cut = False
        self._emitted_at_start = 0
        self._started: int | None = None
        self._optimizer_ended: int | None = None

    def begin(self) -> None:
        """Recording begins now."""
        if self._automatic:
            self._recorder.step = NONE
            self._recorder.turn(self._recorder.clock())
            self._recorder.on_compute = self._compute_begins
            self._recorder.on_optimizer = self._optimizer_ends
        else:
            self._recorder.step = 0
            self._start(self._recorder.clock())

    def end(self) -> None:
        """The step ends here because the user says so."""
        if self._automatic:
            self._leave_automatic()
        self._close(self._recorder.clock())

    def finish(self) -> None:
        """Recording ends now: an automatic step that had its optimizer step is complete."""
        if self._automatic and self._optimizer_ended is not None:
            self._close(self._optimizer_ended)

    @property
    def is_paused(self) -> bool:
        """Whether the user has paused the recording."""
        return self._pauses > 0

    def pause(self) -> None:
        """Record nothing from here on, until as many calls of `resume`."""
        self._pauses += 1
        self._recorder.paused = True
        self._recorder.turn(self._recorder.clock())

    def resume(self) -> None:
        """Go on. What was paused belongs to no step: a window that was empty begins here."""
        self._pauses -= 1
        if self._pauses == 0:
            self._cut = self._recorder.emitted > self._emitted_at_start
            self._recorder.paused = not self._is_sampled()
            now = self._recorder.clock()
            self._recorder.turn(now)
            if not self._cut and self._started is not None:
                self._started = now

    def _is_sampled(self) -> bool:
        return self._recorder.step % self._every == 0

    def _start(self, now: int) -> None:
        recorder = self._recorder
        self._started, self._optimizer_ended = now, None
        self._cut = False
        self._emitted_at_start = recorder.emitted
        recorder.paused = self._pauses > 0 or not self._is_sampled()
        recorder.turn(now)
        for begins in recorder.on_step:
            begins(recorder.step)

    def _leave_automatic(self) -> None:
        self._automatic = False
        self._recorder.on_compute = self._recorder.on_optimizer = None
        if self._started is None:
            self._recorder.step = 0
            self._start(self._recorder.clock())

    def _compute_begins(self) -> None:
        if self._started is None:
            self._recorder.step = 0
            self._start(self._recorder.clock())
        elif self._optimizer_ended is not None:
            self._close(self._recorder.clock())

    def _optimizer_ends(self) -> None:
        if self._started is not None:
            self._optimizer_ended = self._recorder.clock()

    def _close(self, now: int) -> None:
        if self._started is None:
            return
        recorder = self._recorder
        if not self._cut:
            recorder.emit(
                Kind.STEP, recorder.names.intern("step"), self._started, now - self._started
            )
        recorder.step += 1
        self._start(now)
        self._on_end()
