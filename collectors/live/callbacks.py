"""What the callbacks for training frameworks share: a tracer, its steps and microbatches, spans.

A framework drives the loop itself, so that there is no `with Tracer(...)` to write and no
`t.step()` to call. Its callback tells this class instead what begins and ends.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Final

from collectors.live.patches import Patches
from collectors.live.work import Work
from tracer import Tracer
from tracer.recorder import warn
from tracer.rings import NONE
from tracer.schema import Kind

_OF_A_MICROBATCH: Final = (Kind.FORWARD, Kind.BACKWARD)


class LoopRecording:
    """The recording of one training that a framework drives.

    Only `start` may raise, and only for wrong use, before anything is recorded. An error of ours
    in any other method ends the recording and not the training.
    """

    def __init__(self, path: str | os.PathLike[str] | None, options: dict[str, Any]) -> None:
        self.microbatch = 0
        self._path = path
        self._options = options
        self._patches = Patches()
        self._open: dict[str, tuple[Kind, Work]] = {}
        self._tracer: Tracer | None = None
        self._ended = False

    def start(self, hook: Callable[[Patches], None]) -> None:
        """Begin to record; `hook` replaces what is to be wrapped. `stop` puts it back.

        Does nothing but begin the step's microbatches anew where it records already: a framework
        may begin a training again that ran out of memory.

        Raises:
            UsageError: as `Tracer` does, for a directory that holds a run already.
        """
        self.microbatch = 0
        if self._tracer is not None:
            return
        if self._ended:
            warn("a callback records one training; this one is not recorded (make another)")
            return
        # Only here, and not when the callback is made: by now the process group exists.
        tracer = Tracer(self._path, **self._options)
        tracer.start()
        self._tracer = tracer
        if not tracer.recorder.active:
            return
        try:
            hook(self._patches)
        except Exception as error:
            tracer.recorder.fault(error)

    def stop(self) -> None:
        """Put back what was replaced and close the files. Calling it twice is fine."""
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        self._ended = True
        for _ in range(2):  # the second time does what an error kept the first one from
            try:
                self._patches.restore()
            except Exception as error:
                tracer.recorder.fault(error)
        self._open.clear()
        tracer.stop()

    def batch_ends(self, *, stepped: bool) -> None:
        """A batch is through; `stepped` if the optimizer stepped: then the step ends as well."""
        self.microbatch = 0 if stepped else self.microbatch + 1
        if stepped and self._tracer is not None:
            self._tracer.step()

    def begins(self, kind: Kind, name: str, *, inside: bool = False) -> bool:
        """A piece of work begins; False if it is not recorded, and then nothing may end it.

        Inside another piece only with `inside`: a method that calls its parent's, or the forward
        of a validation, is one piece.
        """
        if self._tracer is None:
            return False
        recorder = self._tracer.recorder
        if not recorder.active or name in self._open or (recorder.working and not inside):
            return False
        try:
            microbatch = self.microbatch if kind in _OF_A_MICROBATCH else NONE
            self._open[name] = kind, Work(recorder, NONE, microbatch)
        except Exception as error:
            recorder.fault(error)
            return False
        return True

    def ends(self, name: str) -> None:
        """The piece of this name ends; nothing where none began."""
        kind, work = self._open.pop(name, (None, None))
        if kind is None or work is None or self._tracer is None:
            return
        try:
            work.end(kind, name)
        except Exception as error:
            self._tracer.recorder.fault(error)

    def wrap(self, kind: Kind, name: str) -> Callable[[Any], Any]:
        """For `Patches.replace`: every call of the function is a piece, also one that raises."""

        def wrap(original: Any) -> Any:
            @functools.wraps(original)
            def traced(*args: Any, **kwargs: Any) -> Any:
                began = self.begins(kind, name)
                try:
                    return original(*args, **kwargs)
                finally:
                    if began:
                        self.ends(name)

            return traced

        return wrap
