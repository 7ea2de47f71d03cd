"""`Tracer`: what a user wraps a training loop with.

It claims the run directory, starts what records (parts.py), counts steps, and takes everything out
again. Only wrong use raises (a second tracer, a directory that holds a run already), and
only before recording starts; whatever fails later ends the tracing and not the training.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from tracer import environment
from tracer.about import AboutTheRun
from tracer.directory import Claim, attempt_directory, claim
from tracer.errors import UsageError
from tracer.parts import Parts
from tracer.protocol import Collector
from tracer.recorder import Recorder, warn
from tracer.run_files import RankFacts
from tracer.schema import Kind, events_file
from tracer.settings import settle
from tracer.signals import Signals
from tracer.spans import Span, Spans
from tracer.steps import Steps
from tracer.topology import Topology
from tracer.windows import Window

P = ParamSpec("P")
R = TypeVar("R")

_current: Tracer | None = None
"""The tracer that records in this process: hooks are process-wide, so there can be one only."""


class Tracer:
    """Records this rank into `path`, one directory for all ranks of the run.

    Args:
        path: the run directory; every rank names the same one. An attempt that torchrun starts
            again after a failure records into `<path>.restart-<n>`. Without it RANKSCOPE_DIR in
            the environment names it, and if that is not set either, nothing is recorded: so a
            launcher can switch recording on.
        mesh: the `DeviceMesh` of the run. One that is built while recording is found by itself.
        schedule: the pipeline schedule; likewise.
        config: what you want to find again beside the numbers (JSON values).
        collectors: sources of events instead of all installed ones.
        link_peaks: peak GB/s (1e9 bytes per second) by mesh dimension, for utilization.
        enabled: False, or RANKSCOPE_DISABLE=1 in the environment, makes everything a no-op.
        overwrite: replace a run that is there already.
        automatic_steps: end steps by themselves, where the first work after an optimizer step
            begins, instead of at calls of `step`.
        every: record one step out of so many, beginning with step 0.
        kernels: when to look closer through torch.profiler, which sees every kernel and operator
            at a higher cost: `Window(every=500, steps=2)`.
        flush_interval_s: at most this many seconds of events are lost if the process is killed.
        keep_last: be a black box: hold the last so many steps in memory, and write them only when
            something happens: a slow step, no progress, SIGUSR1 or SIGTERM, an exception that
            leaves the `with` block, a call of `dump`.
        slow_step_s: a step that takes longer is something that happens.
        hang_s: so is no new event and no new step for so long (default 120).

    Raises:
        UsageError: `path` holds a run already or cannot be written to, `config` is not JSON, or
            (when entered) another tracer is recording in this process.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        mesh: Any = None,
        schedule: Any = None,
        config: Mapping[str, Any] | None = None,
        collectors: Sequence[Collector] | None = None,
        link_peaks: Mapping[str, float] | None = None,
        enabled: bool = True,
        overwrite: bool = False,
        automatic_steps: bool = False,
        every: int | None = None,
        kernels: Window | None = None,
        flush_interval_s: float | None = None,
        keep_last: int | None = None,
        slow_step_s: float | None = None,
        hang_s: float | None = None,
    ) -> None:
        chosen = settle(
            path=path,
            enabled=enabled,
            every=every,
            flush_interval_s=flush_interval_s,
            kernels=kernels,
            keep_last=keep_last,
            slow_step_s=slow_step_s,
            hang_s=hang_s,
        )
        self.path = attempt_directory(chosen.path)
        self.enabled = chosen.enabled
        self.recorder = Recorder(kernels=chosen.kernels)
        self._about = AboutTheRun(self.recorder, config=config, link_peaks=link_peaks)
        self._given = mesh, schedule
        self._steps = Steps(
            self.recorder,
            automatic=automatic_steps,
            every=chosen.every,
            on_end=self._about.look_at_device,
        )
        self._flush_interval_s = chosen.flush_interval_s
        self._keep_last = chosen.black_box.keep_last if chosen.black_box else 0
        self._parts = Parts(
            self.recorder,
            self._about,
            self._steps,
            collectors=collectors,
            watch=chosen.black_box,
        )
        self._spans = Spans(self.recorder)
        self._span_classes = self._spans.classes
        self._refused_counters = False
        self._claim: Claim | None = None
        try:
            self._claim_directory(overwrite=overwrite)
        except UsageError:
            raise
        except Exception as error:
            self.enabled = False
            self.recorder.fault(error)

    @property
    def topology(self) -> Topology:
        """Where this rank stands: its coordinates, stages and groups as found so far."""
        return self._about.topology

    def __enter__(self) -> Tracer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._note_exception(error)
        self.stop()

    def start(self) -> None:
        """Begin to record; `with` does this.

        Raises:
            UsageError: another tracer is recording in this process, or this one has been stopped.
        """
        global _current
        if self._claim is None:
            return
        if self._claim.released:
            raise UsageError(f"{self.path}: a Tracer records once; make another for another run")
        if _current is not None:
            raise UsageError(
                f"a tracer is recording into {_current.path} already; "
                "leave its `with` block (or call stop) before starting another"
            )
        _current = self
        try:
            atexit.register(self._stop_at_exit)
            mesh, schedule = self._given
            self._parts.start(
                self.path,
                facts=self._facts,
                flush_interval_s=self._flush_interval_s,
                mesh=mesh,
                schedule=schedule,
            )
        except Exception as error:
            self.recorder.fault(error)
            self.stop()

    def stop(self) -> None:
        """Take out every hook, write what is left, close the files. Calling it twice is fine."""
        global _current
        if _current is not self:
            return
        try:
            self._steps.finish()
            self._about.look_at_device()
        except Exception as error:
            self.recorder.fault(error)
        self.recorder.active = False
        for finish in (
            *self._parts.endings,
            self._release,
            lambda: atexit.unregister(self._stop_at_exit),
        ):
            for _ in range(2):  # what an error kept the first call from, the second one does
                try:
                    finish()
                    break
                except Exception as error:
                    self.recorder.fault(error)
        _current = None

    def dump(self, reason: str) -> None:
        """Write what the black box holds, at the next flush; without one everything is written."""
        try:
            if self._parts.box is not None:
                self._parts.box.ask(str(reason))
        except Exception as error:
            self.recorder.fault(error)

    def step(self) -> None:
        """The training step ends here and the next one begins."""
        if self.recorder.active:
            try:
                self._steps.end()
            except Exception as error:
                self.recorder.fault(error)

    @overload
    def span(self, name: str, *, kind: Kind = Kind.USER) -> Span: ...

    @overload
    def span(self, name: Callable[P, R], *, kind: Kind = Kind.USER) -> Callable[P, R]: ...

    def span(self, name: str | Callable[P, R], *, kind: Kind = Kind.USER) -> Span | Callable[P, R]:
        """`with t.span("augment"):` records the block; `kind=Kind.DATA` for data loading.

        As a decorator it records every call: `@t.span("augment")`, or `@t.span` alone, which
        takes the function's own name.
        """
        try:
            # All but the first of a name: asking for more, as below, would cost as much again.
            return self._span_classes[kind][name]()  # type: ignore[index]
        except Exception:
            try:
                if isinstance(name, str):
                    return self._spans.span(kind, name)
                return self._spans.span(kind, name.__qualname__)(name)
            except Exception as error:
                self.recorder.fault(error)
                return Span() if isinstance(name, str) else name

    def counter(self, name: str, value: float) -> None:
        """Keep one value of a counter, with its unit after a slash: `throughput/tokens_per_s`.

        A tensor must be on the CPU: reading one from a device would wait for the device.
        """
        try:
            where = getattr(getattr(value, "device", None), "type", "cpu")
            if where == "cpu":
                self.recorder.count(name, float(value))
            elif not self._refused_counters:
                self._refused_counters = True
                warn(
                    f"counter {name!r}: the value is on {where}, and reading it would make the "
                    "training wait; pass a number (value.item() where you read it anyway)"
                )
        except Exception as error:
            self.recorder.fault(error)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """`with t.pause():` records nothing in the block (an evaluation, a checkpoint).

        Between two steps it belongs to neither; in the middle of a step that step is left out
        of the analyses. Every rank must pause at the same place.
        """
        try:
            self._steps.pause()
        except Exception as error:
            self.recorder.fault(error)
        try:
            yield
        finally:
            try:
                self._steps.resume()
            except Exception as error:
                self.recorder.fault(error)

    def _claim_directory(self, *, overwrite: bool) -> None:
        rank, world_size = environment.rank_and_world_size()
        self._about.topology = Topology(rank=rank, world_size=world_size)
        self._about.run_id = environment.run_id(world_size)
        if self.enabled and environment.helps_recorder(self.path):
            self.enabled = False
        if self.enabled:
            if _current is not None and _current.path == self.path:
                raise UsageError(f"{self.path}: this process is recording into it now")
            self._claim = claim(
                self.path, rank, world_size, self._about.run_id, overwrite=overwrite
            )
            self.recorder.identity = rank, str(self.path / events_file(rank))
            environment.note_recording(self.path)

    def _facts(self) -> RankFacts:
        if self._claim is not None:
            self._claim.check()
        return self._about.rank(keep_last=self._keep_last)

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
        environment.note_recording(None)

    def _stop_at_exit(self) -> None:
        """The process ends without `stop`; perhaps by an exception that nobody caught."""
        error = getattr(sys, "last_value", None)
        if error is not None:
            self._note_exception(error)
        self.stop()

    def _note_exception(self, error: BaseException) -> None:
        """An exception leaves the training: that is something for the black box to write."""
        if isinstance(error, SystemExit) and not error.code:
            return
        self.dump(f"exception {type(error).__name__}")


def _before_fork() -> None:
    """A signal that reaches the child before its handlers are gone would be taken for ours."""
    _of_signals(Signals.hold)


def _after_fork() -> None:
    _of_signals(Signals.let_go)


def _of_signals(do: Callable[[Signals], None]) -> None:
    if _current is None or _current._parts.signals is None:
        return
    try:
        do(_current._parts.signals)
    except Exception as error:
        _current.recorder.fault(error)


def _stop_in_child() -> None:
    """A forked child (a data-loading worker) shares our buffers but has no writer: be silent."""
    global _current
    if _current is not None:
        _current.recorder.forget_locks()
        _current.recorder.active = False
        _of_signals(Signals.uninstall)
        _after_fork()
        atexit.unregister(_current._stop_at_exit)
        _current = None


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_stop_in_child)
