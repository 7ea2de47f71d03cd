"""Hooks on forward and backward of training loops without a pipeline schedule.

A forward is the call of a module from outside any other: the model, or a part of it that the
loop calls by itself. A hook on every module would cost every call of every module, so all are
watched only in the first steps, and from then on just the classes of the modules that were
found to be called from outside. A backward is a call of `torch.autograd.backward`, which
`Tensor.backward` makes.

What other collectors record as work (an action of a schedule, a framework's training step) is
left to them: nothing inside it is recorded a second time.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.optim.optimizer import register_optimizer_step_post_hook

from collectors.live.patches import Patches
from tracer.recorder import Recorder
from tracer.rings import NONE
from tracer.schema import Kind
from tracer.topology import Topology

_WATCHED_STEPS: Final = 3

_Began: TypeAlias = tuple[int, Any]


class RootModules:
    """Records forward and backward where no schedule and no framework says what they are.

    Also tells where the first work of a step begins (automatic steps).
    """

    covers = "torch.nn and autograd: forward of the model, backward of the loss"

    def __init__(self) -> None:
        self._patches = Patches()
        self._handles: list[Any] = []
        self._roots: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._optimizer_hook: Any = None
        self._steps = 0

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Watch all modules for some steps, and hook backward."""
        self._recorder = recorder
        self._calls = _Calls()
        self._patches.replace(torch.autograd, "backward", _backward_hook(recorder))
        # One by one, so that the first comes out again if the second cannot go in.
        self._handles.append(register_module_forward_pre_hook(self._begins))
        self._handles.append(register_module_forward_hook(self._ends, always_call=True))
        self._optimizer_hook = register_optimizer_step_post_hook(self._optimizer_stepped)

    def uninstall(self) -> None:
        """Take out what is left of the watching, and put every class back."""
        self._stop_watching()
        if self._optimizer_hook is not None:
            self._optimizer_hook.remove()
            self._optimizer_hook = None
        self._patches.restore()

    def _begins(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._calls.open += 1
        recorder = self._recorder
        if self._calls.open > 1 or recorder.working or not recorder.active:
            return
        try:
            _compute_begins(recorder)
            self._calls.root = module
            self._calls.began = _begin(recorder)
        except Exception as error:
            recorder.fault(error)

    def _ends(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        calls, recorder = self._calls, self._recorder
        calls.open = max(0, calls.open - 1)
        if calls.root is not module:
            return
        calls.root = None
        try:
            self._roots.add(module)
            _record(recorder, Kind.FORWARD, type(module).__name__, calls.began)
            if self._steps >= _WATCHED_STEPS:
                self._stop_watching()
                for kind in {type(root) for root in self._roots}:
                    self._patches.replace(kind, "__call__", _call_hook(recorder, self._roots))
        except Exception as error:
            recorder.fault(error)

    def _optimizer_stepped(self, *unused: Any) -> None:
        """Only counts: torch runs through its hooks while one of them is at work."""
        self._steps += 1

    def _stop_watching(self) -> None:
        while self._handles:
            self._handles[-1].remove()
            self._handles.pop()


class _Calls(threading.local):
    """Calls of modules that are open in this thread, and the outermost of them."""

    def __init__(self) -> None:
        self.open = 0
        self.root: nn.Module | None = None
        self.began: _Began = NONE, None


def _call_hook(recorder: Recorder, roots: weakref.WeakSet[nn.Module]) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def traced(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if (
                torch.compiler.is_compiling()
                or recorder.working
                or not recorder.active
                or module not in roots
            ):
                return original(module, *args, **kwargs)
            try:
                _compute_begins(recorder)
                began = _begin(recorder)
            except Exception as error:
                recorder.fault(error)
                began = NONE, None
            recorder.working += 1
            try:
                return original(module, *args, **kwargs)
            finally:
                recorder.working -= 1
                try:
                    _record(recorder, Kind.FORWARD, type(module).__name__, began)
                except Exception as error:
                    recorder.fault(error)

        return traced

    return wrap


def _backward_hook(recorder: Recorder) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def traced(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or recorder.working or not recorder.active:
                return original(*args, **kwargs)
            try:
                began = _begin(recorder)
            except Exception as error:
                recorder.fault(error)
                began = NONE, None
            recorder.working += 1
            try:
                return original(*args, **kwargs)
            finally:
                recorder.working -= 1
                try:
                    _record(recorder, Kind.BACKWARD, "backward", began)
                except Exception as error:
                    recorder.fault(error)

        return traced

    return wrap


def _compute_begins(recorder: Recorder) -> None:
    if recorder.on_compute is not None:
        recorder.on_compute()


def _begin(recorder: Recorder) -> _Began:
    """The time and the device's mark at which work begins."""
    mark = None if recorder.device is None else recorder.device.mark()
    return recorder.clock(), mark


def _record(recorder: Recorder, kind: Kind, name: str, began: _Began) -> None:
    start, mark = began
    index, microbatch = recorder.names.intern(name), recorder.microbatch
    recorder.emit(kind, index, start, recorder.clock() - start, microbatch=microbatch)
    if recorder.device is not None:
        recorder.device.worked(mark, kind, index, microbatch=microbatch)
