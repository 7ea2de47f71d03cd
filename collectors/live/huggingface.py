"""A callback for `transformers.Trainer`: forward, backward, data loading, evaluation and steps.

The trainer has callbacks for steps alone. The rest is seen by wrapping its methods while it
trains; a subclass that has its own version of one is wrapped as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from accelerate import Accelerator  # type: ignore[import-untyped,unused-ignore]
from transformers import Trainer, TrainerCallback

from collectors.live.callbacks import LoopRecording
from collectors.live.patches import Patches
from tracer.schema import Kind

_WRAPPED: Final[tuple[tuple[Any, str, Kind, str], ...]] = (
    (Trainer, "compute_loss", Kind.FORWARD, "compute_loss"),
    (Accelerator, "backward", Kind.BACKWARD, "backward"),
    (Trainer, "get_batch_samples", Kind.DATA, "dataloader"),
    (Trainer, "evaluate", Kind.USER, "validation"),
)
"""Class, method, and what a call of it is recorded as."""


class RankscopeCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """`Trainer(..., callbacks=[RankscopeCallback("runs/a")])` records the training into `runs/a`.

    One step of Rankscope is one step of the optimizer: the batches that the trainer accumulates
    are its microbatches. A training that raises does not end its callbacks: call `stop` then,
    before another recording in the same process.

    Args:
        path: the run directory, the same on every rank.
        options: the other arguments of `tracer.Tracer`.

    Raises:
        UsageError: as `Tracer` does, when the training starts.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self._recording = LoopRecording(path, options)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Recording begins."""
        self._recording.start(self._hook)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A batch is through whose gradients are accumulated."""
        self._recording.batch_ends(stepped=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer has stepped."""
        self._recording.batch_ends(stepped=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Recording ends."""
        self.stop()

    def stop(self) -> None:
        """End the recording of a training that raised. Calling it twice is fine."""
        self._recording.stop()

    def _hook(self, patches: Patches) -> None:
        for owner, method, kind, name in _WRAPPED:
            for owner_of_one in _with_own(owner, method):
                patches.replace(owner_of_one, method, self._recording.wrap(kind, name))


def _with_own(owner: type, method: str) -> Iterator[type]:
    """The class and those of its subclasses that define the method themselves."""
    seen: set[type] = {owner}
    waiting: list[type] = [owner]
    while waiting:
        current = waiting.pop()
        if current is owner or method in vars(current):
            yield current
        children: list[type] = current.__subclasses__()
        fresh = set(children) - seen
        seen |= fresh
        waiting += fresh
