"""Spans that a user marks: `with t.span("data"):` and `@t.span("data")`.

A span of a training loop is made anew in every step, so making one must cost little: each name
gets a class of its own, whose instances hold nothing but their start.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from tracer.recorder import OTHER, Recorder, warn
from tracer.rings import RECORD_BYTES, pack_event
from tracer.schema import Kind

_MOST_CLASSES: Final = 1 << 13
"""Of one kind; a class takes 1.5 kB of the training's memory for good."""

P = ParamSpec("P")
R = TypeVar("R")


class Span:
    """A `with` block that records itself when it ends, also by an exception; or a decorator."""

    __slots__ = ("mark", "start")

    start: int
    mark: Any

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        return None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Record every call of `function`."""
        span = type(self)

        @functools.wraps(function)
        def traced(*args: P.args, **kwargs: P.kwargs) -> R:
            with span():
                return function(*args, **kwargs)

        return traced


class Spans:
    """Makes the spans of one recorder."""

    __slots__ = ("_recorder", "_said", "classes")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._said = False
        # A list by kind, since the hash of an enum's member is a call of its own.
        self.classes: list[dict[str, type[Span]]] = [{} for _ in Kind]
        """The class of each name's spans, by kind: what `span` has made so far."""

    def span(self, kind: Kind, name: str) -> Span:
        """A `with` block that records itself, also when the block raises."""
        classes = self.classes[kind]
        try:
            return classes[name]()
        except KeyError:
            if len(classes) >= _MOST_CLASSES and name != OTHER:
                return self._other(kind)
            made = classes[name] = _span_class(self._recorder, kind, name)
            return made()

    def _other(self, kind: Kind) -> Span:
        """A name too many: said once, and recorded under a name that stands for all of these."""
        if not self._said:
            self._said = True
            warn(
                f"spans have more than {_MOST_CLASSES:,} names, and further ones are recorded as "
                f"{OTHER!r}: name what is done, and count with t.counter"
            )
        return self.span(kind, OTHER)


def _span_class(recorder: Recorder, kind: Kind, name: str) -> type[Span]:
    """The class of the spans with this name.

    The append is written out here and not called: a call would cost a fifth of the span.
    """
    clock, local = recorder.clock, recorder.local
    index, number = recorder.names.intern(name), int(kind)

    class Named(Span):
        __slots__ = ()

        def __enter__(self) -> Span:
            try:
                if recorder.device is not None:
                    self.mark = recorder.device.mark()
                self.start = clock()
            except Exception as error:
                recorder.fault(error)
            return self

        def __exit__(self, kind: object, error: object, trace: object) -> None:
            try:
                end = clock()
                if recorder.paused or not recorder.active:
                    return
                try:
                    lap = local.lap
                except AttributeError:
                    lap = recorder.add_ring()
                at, start = lap.at, self.start
                if at == lap.end:
                    lap, at = recorder.next_lap(), 0
                pack_event(
                    lap.data,
                    at,
                    start,
                    end - start,
                    recorder.step,
                    number,
                    index,
                    recorder.stage,
                    recorder.microbatch,
                )
                lap.at = at + RECORD_BYTES
                if recorder.device is not None:
                    mark = getattr(self, "mark", None)
                    recorder.device.worked(mark, number, index, recorder.stage, recorder.microbatch)
            except Exception as fault:
                recorder.fault(fault)

    return Named
