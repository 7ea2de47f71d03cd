"""The trace format, version 1: what a run directory holds and what each column means.

A run directory is `run.json` (facts of the whole run, written by rank 0) and, per rank,
`rank-00000.arrows` (events), `rank-00000.counters.arrows`, `rank-00000.clock.arrows` and
`rank-00000.json` (facts that only this rank knows). docs/trace-format.md is the reference.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import pyarrow as pa

FORMAT_NAME: Final = "rankscope"
FORMAT_VERSION: Final = 1
RUN_FILE: Final = "run.json"
MAX_RANK: Final = (1 << 23) - 1
"""Eight million; the analyses put a rank and a correlation into one 64-bit number."""


class Kind(IntEnum):
    """What an event is. The numbers are private to a process; files carry the names."""

    STEP = 0
    FORWARD = 1
    BACKWARD = 2
    BACKWARD_INPUT = 3
    BACKWARD_WEIGHT = 4
    OPTIMIZER = 5
    COLLECTIVE = 6
    SEND = 7
    RECV = 8
    WAIT = 9
    KERNEL = 10
    MODULE = 11
    DATA = 12
    USER = 13
    MARKER = 14

    @property
    def label(self) -> str:
        """The name that the `kind` column holds."""
        return self.name.lower()


KINDS: Final = tuple(kind.label for kind in Kind)
COMPUTE_KINDS: Final = ("forward", "backward", "backward_input", "backward_weight")
COMMUNICATION_KINDS: Final = ("collective", "send", "recv")
OPERATION_KINDS: Final = (*COMMUNICATION_KINDS, "wait")
"""Of the events that make up an operation of a process group."""
WORK_KINDS: Final = (*COMPUTE_KINDS, "optimizer")
"""Of the events that say whose work counts, the host's or a device's."""
OPERATORS: Final = " operators"
KERNELS: Final = " kernels"
LAUNCHES: Final = " launches"
"""Ends of the names of lanes with events of kind `kernel`: operators of the host, device kernels
and copies, and, of imported traces, the calls that launched them."""
LONGEST_KERNEL: Final = 200
"""Characters of a kernel's name: those of templates run to thousands."""
GARBAGE_COLLECTION: Final = "garbage collection"
"""Name of the spans (kind `user`) in which Python collected garbage."""
NOT_COMPLETE: Final = "not complete: "
"""Marker events whose names begin so are operations that were still going on at the end."""


def _field(
    name: str, type_: pa.DataType, meaning: str, *, unit: str = "", null: bool = True
) -> pa.Field:
    metadata = {"meaning": meaning} | ({"unit": unit} if unit else {})
    return pa.field(name, type_, nullable=null, metadata=metadata)


_WORD = pa.dictionary(pa.int32(), pa.string())

EVENT_SCHEMA: Final = pa.schema(
    [
        _field("start", pa.int64(), "raw CLOCK_MONOTONIC of the host", unit="ns", null=False),
        _field("duration", pa.int64(), "end minus start", unit="ns", null=False),
        _field("kind", _WORD, "what the event is: " + ", ".join(KINDS), null=False),
        _field("name", _WORD, "op, module path, kernel name or user label", null=False),
        _field("lane", _WORD, "host:<thread> or device:<stream>", null=False),
        _field("step", pa.int32(), "training step, from 0"),
        _field("stage", pa.int32(), "global pipeline stage index"),
        _field("microbatch", pa.int32(), "microbatch index within the step"),
        _field("group", _WORD, "process group: <mesh dimension>:<global ranks>"),
        _field(
            "seq",
            pa.int64(),
            "collectives: number of the call in its group; p2p: number of the message "
            "from its source to its destination in the group; both from 0",
        ),
        _field("peer", pa.int32(), "global rank at the other end of a send or receive"),
        _field("bytes", pa.int64(), "payload as nccl-tests counts it", unit="bytes"),
        _field("count", pa.int64(), "elements of the payload"),
        _field("dtype", _WORD, "element type of the payload"),
        _field("correlation", pa.int64(), "ties call, wait, transfer and kernel of one operation"),
        _field("flops", pa.int64(), "floating-point operations, where known"),
    ]
)

COUNTER_SCHEMA: Final = pa.schema(
    [
        _field("ts", pa.int64(), "raw CLOCK_MONOTONIC of the host", unit="ns", null=False),
        _field(
            "name", _WORD, "counter, its unit after a slash: memory.allocated/bytes", null=False
        ),
        _field("value", pa.float64(), "the value at ts", null=False),
    ]
)

CLOCK_SCHEMA: Final = pa.schema(
    [
        _field("ts", pa.int64(), "raw CLOCK_MONOTONIC of the host", unit="ns", null=False),
        _field(
            "source", _WORD, "what the clock is compared with: rank:<n> or device:<n>", null=False
        ),
        _field("offset", pa.int64(), "add it to ts to get the other clock", unit="ns", null=False),
        _field("error", pa.int64(), "bound of the error of offset", unit="ns", null=False),
    ]
)

SCHEMAS: Final = {"events": EVENT_SCHEMA, "counters": COUNTER_SCHEMA, "clock": CLOCK_SCHEMA}
"""The columns of a file by its `rankscope.content`."""


def events_file(rank: int) -> str:
    """`rank-00003.arrows`: the events of one rank."""
    return f"rank-{rank:05d}.arrows"


def counters_file(rank: int) -> str:
    """`rank-00003.counters.arrows`: the counters of one rank."""
    return f"rank-{rank:05d}.counters.arrows"


def clock_file(rank: int) -> str:
    """`rank-00003.clock.arrows`: the clock samples of one rank."""
    return f"rank-{rank:05d}.clock.arrows"


def stacks_file(rank: int) -> str:
    """`rank-00003.stacks.txt`: the Python stacks of a rank that hung, as text."""
    return f"rank-{rank:05d}.stacks.txt"


def facts_file(rank: int) -> str:
    """`rank-00003.json`: what only this rank knows of itself (host, stages, groups)."""
    return f"rank-{rank:05d}.json"


def file_metadata(content: str, *, run_id: str, rank: int) -> dict[bytes, bytes]:
    """The schema metadata that says what a file is; `content` is events, counters or clock."""
    return {
        b"rankscope.content": content.encode(),
        b"rankscope.format_version": str(FORMAT_VERSION).encode(),
        b"rankscope.run_id": run_id.encode(),
        b"rankscope.rank": str(rank).encode(),
    }
