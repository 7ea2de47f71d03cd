"""What a device kernel is for, by its name: compute, communication, memory or synchronization.

The names are those of CUPTI and NCCL, the rules those of Holistic Trace Analysis, which judges
kernels by their names alone (its hta/utils/utils.py, version 0.5).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.intervals import intervals
from dashboard.analysis.lanes_of_kinds import lanes_of_kinds
from dashboard.runs.columns import numbers
from dashboard.runs.words import fulfil, have, where
from tracer.arrays import bool_array
from tracer.schema import COMMUNICATION_KINDS, COMPUTE_KINDS, KERNELS, LAUNCHES, OPERATORS

if TYPE_CHECKING:
    from dashboard.runs import Recording

COMPUTE, COMMUNICATION, MEMORY, OTHER = "compute", "communication", "memory", "other"
PURPOSES: Final = (COMPUTE, COMMUNICATION, MEMORY, OTHER)

_COMMUNICATION: Final = re.compile(r"[nr]ccl.*Kernel")
_MEMORY: Final = re.compile(r"Memcpy|Memset|dma")
_OTHER: Final = re.compile(r".*Sync|.*Memcpy|Memset")


def purpose_of(name: str) -> str:
    """`ncclDevKernel_AllReduce…` → communication, `Memcpy DtoH …` → memory, `Context Sync` → other,
    anything else → compute.
    """
    if _COMMUNICATION.match(name):
        return COMMUNICATION
    if _MEMORY.match(name):
        return MEMORY
    return OTHER if _OTHER.match(name) else COMPUTE


def of_purpose(kernels: pa.Table, purpose: str) -> pa.Table:
    """The rows of kernels with that purpose."""
    return kernels.filter(fulfil(kernels["name"], lambda name: purpose_of(name) == purpose))


def holds_kernels(lane: str) -> bool:
    """Whether the events of kind `kernel` on that lane are kernels and copies on a device."""
    return lane.startswith("device:") and lane.endswith(KERNELS)


def device_kernels(events: pa.Table) -> pa.Table:
    """The rows of kernels and copies on a device; needs the columns kind and lane."""
    return _on_lanes(events, holds_kernels)


def operators(events: pa.Table) -> pa.Table:
    """The rows of operators on the host."""
    return _on_lanes(events, lambda lane: lane.startswith("host:") and lane.endswith(OPERATORS))


def without_inner_operators(host: pa.Table) -> pa.Table:
    """What a host did, without the operators that began in a span of work or communication: that
    span says more of them. Launches are left out, too; they lie in operators.

    forward 0-10, operators 1-3 and 12-15 → forward 0-10 and the operator 12-15
    """
    is_operator = have(host["kind"], ("kernel",))
    if not pc.any(is_operator).as_py():
        return host
    known = (*COMPUTE_KINDS, *COMMUNICATION_KINDS, "wait", "optimizer", "data")
    spans = host.filter(have(host["kind"], known))
    taken = intervals(numbers(spans["start"]), numbers(spans["duration"]))
    start = numbers(host["start"])
    at = np.searchsorted(taken[:, 0], start, side="right") - 1
    inside = (at >= 0) & (start < taken[at, 1]) if len(taken) else np.zeros(len(start), np.bool_)
    is_launch = where(host["lane"], lambda lanes: pc.ends_with(lanes, LAUNCHES))
    return host.filter(pc.invert(pc.and_(is_operator, pc.or_(is_launch, bool_array(inside)))))


def category_of_operators(run: Recording, rank: int) -> str:
    """What operators of the host are in time accounting: compute on an imported rank that had no
    device, since nothing else tells its work; elsewhere the host's own time.
    """
    if run.meta.source is None:
        return "host"
    lanes = (lane for of_kind in lanes_of_kinds(run, rank).values() for lane in of_kind)
    return "host" if any(lane.startswith("device:") for lane in lanes) else "compute"


def _on_lanes(events: pa.Table, lanes: Callable[[str], bool]) -> pa.Table:
    there = fulfil(events["lane"], lanes)
    return events.filter(pc.and_(have(events["kind"], ("kernel",)), there))
