"""Read torch's flight recorder: the list of collectives that a backend was asked for.

It is on by default, keeps the last 2,000 operations of all process groups of a process
(TORCH_FR_BUFFER_SIZE), and sees also those that C++ issues without Python: the reducer of
DistributedDataParallel, and compiled code. On gloo it lists collectives alone, and of them only
when they were asked for; on NCCL also sends and receives, and how long they took where timing
is on. Source: torch/csrc/distributed/c10d/FlightRecorder.hpp of torch 2.13.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Final

from torch._C import _distributed_c10d as c10d

from collectors.flight_entries import Entry, entry_of

_RECORDERS: Final = ("_dump_fr_trace", "_dump_nccl_trace")
"""Who can be asked: (with collectives, with stack traces, only what is active) → a pickle."""


def dump(group_sizes: Mapping[str, int]) -> dict[str, list[Entry]]:
    """What the flight recorders hold now, oldest first, by recorder; empty if switched off.

    NCCL has one of its own, and each numbers its records by itself. A torch without one gives
    nothing. `group_sizes` (members by the group's name) tells how many shares a gather or scatter
    moves.
    """
    taken = {}
    for recorder in _RECORDERS:
        ask = getattr(c10d, recorder, None)
        if ask is not None:
            held = pickle.loads(ask(True, False, False)).get("entries", ())
            taken[recorder] = [
                entry_of(raw, group_sizes.get(raw["process_group"][0], 1)) for raw in held
            ]
    return taken
