"""One clock for all ranks: what to add to each rank's raw times, and how far off that may be.

Ranks of one host (same boot id) read the same CLOCK_MONOTONIC, so between them there is nothing
to align. One rank of each host has compared its clock with another host's (`rank-N.clock.arrows`);
the comparisons form a tree, and its root's clock is the common one. A host without any is laid on
the others by the operations in which they met. All meetings then tighten the bound, and where
they still contradict the clocks, they are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.causality import Traffic, attached, contradictions, tightened
from dashboard.runs.clock_map import ClockMap, identity
from dashboard.runs.clock_tree import Span, exchanged
from dashboard.runs.columns import numbers
from dashboard.runs.meetings import Encounters
from tracer.run_files import RankFacts

ONE_CLOCK: Final = "one clock"
EXCHANGED: Final = "exchange between hosts"
BY_MEETINGS: Final = "ends of collectives"
NOT_ALIGNED: Final = "none"

ALIGNED_BY: Final = ("start", "duration", "kind", "name", "lane", "group", "seq", "peer")


@dataclass(kw_only=True, slots=True, frozen=True)
class ClockAlignment:
    """`maps[rank]` leads from the rank's raw times to the common clock.

    `method`: `one clock`, `exchange between hosts`, `ends of collectives` (at least one host),
    or `none`. `bound_ns` is the largest error that any time may have, None if unknown. Of
    `checked` operations in which ranks of different hosts met, `violations` have an effect
    before its cause.
    """

    method: str
    maps: Mapping[int, ClockMap]
    bound_ns: int | None
    checked: int = 0
    violations: int = 0

    def __str__(self) -> str:
        if self.bound_ns is None:
            return "not aligned"
        said = self.method + (f", ± {self.bound_ns / 1e3:,.1f} µs" if self.bound_ns else "")
        if not self.checked:
            return said
        return f"{said}, {self.violations:,} of {self.checked:,} operations out of order"


class Aligner:
    """Aligns ranks whose events it is shown one after the other, in order of their numbers.

    Of events, the columns `ALIGNED_BY` are looked at; 24 bytes of each operation are kept.
    """

    def __init__(self, ranks: Iterable[int], facts: Mapping[int, RankFacts]) -> None:
        self._hosts = {rank: _host(rank, facts) for rank in sorted(ranks)}
        self._spans: dict[int, Span | None] = {}
        self._encounters = Encounters()

    @property
    def looks_at_events(self) -> bool:
        """Whether they matter: what ran on one host has one clock."""
        return len(set(self._hosts.values())) > 1

    def note(self, rank: int, table: pa.Table) -> None:
        """The events of one more rank (raw times)."""
        if not self.looks_at_events:
            return
        start = numbers(table["start"])
        end = start + numbers(table["duration"])
        self._spans[rank] = (int(start.min()), int(end.max())) if len(start) else None
        self._encounters.add(rank, table)

    def aligned(
        self, ranks: Iterable[int], clocks: Mapping[int, pa.Table] | None = None
    ) -> ClockAlignment:
        """The alignment of these ranks, of those that were noted if events are looked at;
        `clocks[rank]` has the columns of `CLOCK_SCHEMA`.
        """
        clocks = clocks or {}
        hosts = {rank: self._hosts[rank] for rank in sorted(ranks)}
        device_error = max((_device_error(table) for table in clocks.values()), default=0)
        if len(set(hosts.values())) <= 1:
            maps = dict.fromkeys(hosts, identity())
            return ClockAlignment(method=ONE_CLOCK, maps=maps, bound_ns=device_error)

        spans = _spans_of_hosts(self._spans, hosts)
        found = exchanged(hosts, spans, clocks) or {next(iter(spans)): identity()}
        traffic = Traffic(self._encounters.meetings(hosts), hosts)
        pa.default_memory_pool().release_unused()  # twice as much as the meetings
        missing = [host for host in spans if host not in found]
        while more := attached(traffic, found, spans):
            found |= more
        if any(host not in found for host in missing):
            maps = dict.fromkeys(hosts, identity())
            return ClockAlignment(method=NOT_ALIGNED, maps=maps, bound_ns=None)
        found = tightened(traffic, found)
        checked, violations = contradictions(traffic, found)
        return ClockAlignment(
            method=BY_MEETINGS if missing else EXCHANGED,
            maps={rank: found[host] for rank, host in hosts.items()},
            bound_ns=max(found[host].bound_ns for host in spans) + device_error,
            checked=checked,
            violations=violations,
        )


def align(
    events: Mapping[int, pa.Table],
    facts: Mapping[int, RankFacts],
    clocks: Mapping[int, pa.Table] | None = None,
) -> ClockAlignment:
    """The alignment of these ranks; see `Aligner`. Each rank is asked for once, or not at all."""
    aligner = Aligner(events, facts)
    if aligner.looks_at_events:
        for rank in sorted(events):
            aligner.note(rank, events[rank])
    return aligner.aligned(events, clocks)


def _host(rank: int, facts: Mapping[int, RankFacts]) -> str:
    """A rank that does not say where it ran is taken to be alone there."""
    known = facts.get(rank)
    return known.boot_id if known is not None and known.boot_id else f"rank:{rank}"


def _spans_of_hosts(
    of_ranks: Mapping[int, Span | None], hosts: Mapping[int, str]
) -> dict[str, Span]:
    """First and last raw time of each host, in the order of their lowest ranks."""
    spans: dict[str, Span] = {}
    for rank, host in hosts.items():
        span, before = of_ranks[rank], spans.get(host)
        if before is None:
            spans[host] = span or (0, 0)
        elif span is not None:
            spans[host] = min(span[0], before[0]), max(span[1], before[1])
    return spans


def _device_error(table: pa.Table) -> int:
    """The largest error of the anchors that tie device clocks to the rank's host clock."""
    of_device = pc.starts_with(table["source"].cast(pa.string()), "device:")
    errors = table["error"].filter(of_device)
    return int(np.max(numbers(errors))) if len(errors) else 0
