"""Hooks on optimizers, through the global step hooks that torch offers."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from tracer.recorder import Recorder
from tracer.schema import Kind
from tracer.topology import Topology


class Optimizers:
    """Records every optimizer's step as one span, named after its class.

    Except where `step` itself is compiled: hooks do not exist in there.
    """

    covers = "torch.optim: every optimizer's step"

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._started: dict[int, tuple[int, Any]] = {}

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Register the two hooks."""

        def before(optimizer: Any, args: Any, kwargs: Any) -> None:
            # A step that is compiled would otherwise trace these hooks and break on the clock.
            if recorder.active and not torch.compiler.is_compiling():
                try:
                    mark = None if recorder.device is None else recorder.device.mark()
                    self._started[id(optimizer)] = recorder.clock(), mark
                except Exception as error:
                    recorder.fault(error)

        def after(optimizer: Any, args: Any, kwargs: Any) -> None:
            if torch.compiler.is_compiling():
                return
            began = self._started.pop(id(optimizer), None)
            if began is None or not recorder.active:
                return
            try:
                started, mark = began
                name = recorder.names.intern(f"{type(optimizer).__name__}.step")
                recorder.emit(Kind.OPTIMIZER, name, started, recorder.clock() - started)
                if recorder.device is not None:
                    recorder.device.worked(mark, Kind.OPTIMIZER, name)
                if recorder.on_optimizer is not None:
                    recorder.on_optimizer()
            except Exception as error:
                recorder.fault(error)

        # One by one, so that the first comes out again if the second cannot go in.
        self._handles.append(register_optimizer_step_pre_hook(before))
        self._handles.append(register_optimizer_step_post_hook(after))

    def uninstall(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
