"""A callback for Lightning's `Trainer`: forward, backward, data loading, validation and steps."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Final

from collectors.live.callbacks import LoopRecording
from collectors.live.patches import Patches
from tracer.schema import Kind

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback  # type: ignore[assignment,no-redef,unused-ignore]

_FETCH: Final = ".train_dataloader_next"
"""How the name ends under which Lightning's profilers see the next training batch fetched."""


class RankscopeCallback(Callback):  # type: ignore[misc,unused-ignore]
    """`Trainer(callbacks=[RankscopeCallback("runs/a")])` records the training into `runs/a`.

    One step of Rankscope is one step of the optimizer: the batches that Lightning accumulates
    are its microbatches. Recording begins with the first training epoch, after the sanity check.

    Args:
        path: the run directory, the same on every rank.
        options: the other arguments of `tracer.Tracer`.

    Raises:
        UsageError: as `Tracer` does, when the training starts.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Any) -> None:
        super().__init__()
        self._recording = LoopRecording(path, options)
        self._optimizer_steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Recording begins; every process group exists by now."""
        self._optimizer_steps = trainer.global_step
        self._recording.start(functools.partial(self._hook, trainer, pl_module))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step ends with the batch in which the optimizer stepped."""
        stepped = trainer.global_step != self._optimizer_steps
        self._optimizer_steps = trainer.global_step
        self._recording.batch_ends(stepped=stepped)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """A backward begins; with manual optimization inside of `training_step`."""
        self._recording.begins(Kind.BACKWARD, "backward", inside=True)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """The backward ends."""
        self._recording.ends("backward")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """One span for the whole validation, the forwards in it included."""
        self._recording.begins(Kind.USER, "validation")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The validation ends."""
        self._recording.ends("validation")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Recording ends."""
        self._recording.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Recording ends; what there is of it is kept."""
        self._recording.stop()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Recording ends, where neither of the two above was called."""
        self._recording.stop()

    def _hook(self, trainer: Any, module: Any, patches: Patches) -> None:
        # With manual optimization it holds the backwards and the optimizer steps as well.
        kind = Kind.FORWARD if module.automatic_optimization else Kind.USER
        patches.replace(
            trainer.strategy, "training_step", self._recording.wrap(kind, "training_step")
        )
        begins, ends = self._recording.begins, self._recording.ends
        patches.replace(
            trainer.profiler, "start", _on_fetch(lambda: begins(Kind.DATA, "dataloader"))
        )
        patches.replace(trainer.profiler, "stop", _on_fetch(lambda: ends("dataloader")))


def _on_fetch(report: Callable[[], object]) -> Callable[[Any], Any]:
    """Every profiler is told what begins and ends; none of the callback's hooks tells a fetch."""

    def wrap(original: Any) -> Any:
        def told(action_name: str) -> Any:
            if action_name.endswith(_FETCH):
                report()
            return original(action_name)

        return told

    return wrap
