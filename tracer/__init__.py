"""Record what every rank computes and communicates, as Arrow files. Importing needs no torch."""

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
