"""What a source of events must offer, so that other people's frameworks can ship their own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tracer.recorder import Recorder
from tracer.topology import Topology


@runtime_checkable
class Collector(Protocol):
    """Puts hooks into the running process and takes every one of them out again.

    A class that satisfies this and is named in the entry-point group `rankscope.collectors` is
    found by every `Tracer`. `install` and `uninstall` are called once each; `uninstall` must
    restore whatever `install` replaced, also if `install` failed halfway. A hook reads
    `recorder.active` first, never raises into its caller, and hands its own faults to
    `recorder.fault`.
    """

    covers: str
    """One line that says which events it records."""

    def install(self, recorder: Recorder, topology: Topology) -> None:
        """Start to feed `recorder`; tell `topology` what is learnt of groups and stages."""

    def uninstall(self) -> None:
        """Take every hook out again."""
