"""A hook on the first forward of a step, for training loops without a pipeline schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from tracer.recorder import Recorder
from tracer.topology import Topology


class FirstForward:
    """Tells the recorder where the first work of a step begins; records nothing itself.

    A global forward hook slows down every call of every module, so this one exists only from
    the end of an optimizer step to the first forward after it, and only where steps end by
    themselves. A model that is compiled as a whole does not reach it: then there are no steps.
    """

    covers = "torch.nn: where the first forward of a step begins (automatic steps)"

    def __init__(self) -> None:
        self._waiting: Any = None
        self._after_optimizer: Any = None

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Wait for the first forward, and again after each optimizer step."""
        if recorder.on_compute is None:
            return

        def first(module: Any, args: Any) -> None:
            if torch.compiler.is_compiling():
                return
            self._stop_waiting()
            try:
                if recorder.active and recorder.on_compute is not None:
                    recorder.on_compute()
            except Exception as error:
                recorder.fault(error)

        def wait(*unused: Any) -> None:
            if torch.compiler.is_compiling():
                return
            if self._waiting is None and recorder.active:
                self._waiting = register_module_forward_pre_hook(first)

        self._waiting = register_module_forward_pre_hook(first)
        self._after_optimizer = register_optimizer_step_post_hook(wait)

    def uninstall(self) -> None:
        """Remove both hooks."""
        self._stop_waiting()
        if self._after_optimizer is not None:
            self._after_optimizer.remove()
            self._after_optimizer = None

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.remove()
            self._waiting = None
