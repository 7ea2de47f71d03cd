"""One clock for all ranks: what to add to each rank's raw times, and how far off that may be.

Ranks of one host (same boot id) read the same CLOCK_MONOTONIC, so their offset is exactly 0.
Otherwise the ends of collectives that two ranks share are laid over each other: a collective
ends at about the same instant on all its members. The spread of those differences is the bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracer.run_files import RankFacts


@dataclass(kw_only=True, slots=True, frozen=True)
class ClockAlignment:
    """`offsets[rank]` is added to the rank's raw times (ns); `bound_ns` is None if unknown.

    `method` says how the offsets were found: `one clock`, `ends of collectives`, or `none`.
    """

    method: str
    offsets: Mapping[int, int]
    bound_ns: int | None


def align(events: Mapping[int, pa.Table], facts: Mapping[int, RankFacts]) -> ClockAlignment:
    """The alignment of these ranks to the lowest of them."""
    ranks = sorted(events)
    boots = {facts[rank].boot_id for rank in ranks if rank in facts}
    if len(ranks) <= 1 or (len(boots) == 1 and "" not in boots and len(facts) >= len(ranks)):
        return ClockAlignment(method="one clock", offsets=dict.fromkeys(ranks, 0), bound_ns=0)
    ends = {rank: _collective_ends(events[rank]) for rank in ranks}
    offsets, bound = {ranks[0]: 0}, 0
    waiting = deque([ranks[0]])
    while waiting:
        known = waiting.popleft()
        for rank in ranks:
            shared = ends[known].keys() & ends[rank].keys()
            if rank in offsets or not shared:
                continue
            gaps = np.array([ends[known][key] - ends[rank][key] for key in shared])
            middle = int(np.median(gaps))
            offsets[rank] = offsets[known] + middle
            bound = max(bound, int(np.abs(gaps - middle).max()))
            waiting.append(rank)
    if len(offsets) < len(ranks):
        return ClockAlignment(method="none", offsets=dict.fromkeys(ranks, 0), bound_ns=None)
    return ClockAlignment(method="ends of collectives", offsets=offsets, bound_ns=bound)


def _collective_ends(table: pa.Table) -> dict[tuple[str, int], int]:
    """(group, seq) → raw end of the wait, or of the call where nobody waited, on one rank."""
    kind = table["kind"].cast(pa.string())
    peerless = pc.is_null(table["peer"])
    wanted = pc.and_(pc.is_in(kind, pa.array(["collective", "wait"])), peerless)
    found = table.filter(pc.and_(wanted, pc.is_valid(table["seq"])))
    ends: dict[tuple[str, int], int] = {}
    for group, seq, start, duration in zip(
        *(found[name].to_pylist() for name in ("group", "seq", "start", "duration")), strict=True
    ):
        ends[group, seq] = max(ends.get((group, seq), start), start + duration)
    return ends
