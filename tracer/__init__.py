"""Record what every rank computes and communicates, as Arrow files. Importing needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tracer.errors import RankscopeError, TraceError, UsageError
    from tracer.protocol import Collector
    from tracer.recorder import Recorder
    from tracer.schema import Kind
    from tracer.session import Tracer
    from tracer.windows import Window

__all__ = [
    "Collector",
    "Kind",
    "RankscopeError",
    "Recorder",
    "TraceError",
    "Tracer",
    "UsageError",
    "Window",
]

_HOMES: Final = {
    "Collector": "tracer.protocol",
    "Kind": "tracer.schema",
    "RankscopeError": "tracer.errors",
    "Recorder": "tracer.recorder",
    "TraceError": "tracer.errors",
    "Tracer": "tracer.session",
    "UsageError": "tracer.errors",
    "Window": "tracer.windows",
}
"""Loaded when they are asked for: who reads a run needs the format, not the recorder."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
