"""Who arrived at which collective: where the members of a group part.

All members of a group issue the same collectives in the same order. The first that some issue
and others do not, or issue otherwise, explains a job that hangs. What a rank's file cannot hold
is no evidence: before the rank's first record in the group (a black box keeps the last steps
only), after its last flush (a rank that was killed), or where events were dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboard.analysis.communication.matching import Row
from dashboard.analysis.coverage import Coverage
from tracer.topology import compress

if TYPE_CHECKING:
    from dashboard.runs import Recording

Arrived = Mapping[int, Row]
"""What each rank issued, as a row of `operations`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """The first collective of a group at which its members part."""

    group: str
    seq: int
    arrived: Arrived
    absent: tuple[int, ...]
    last: Mapping[int, int]
    """The number of the last collective of each absent rank in this group, if it has one."""
    out_of_step: str
    """Where the ranks' steps differ already before, in words, or nothing."""

    def __str__(self) -> str:
        said = f"{self.group} #{self.seq}"
        steps = {row["step"] for row in self.arrived.values()} - {None}
        if len(steps) == 1:
            said += f" in step {steps.pop()}"
        if not self.absent:
            said += f": the members called different operations: {_calls(self.arrived)}"
        else:
            said += f": {_calls(self.arrived)}; did not arrive: {_ranks(self.absent)}"
            said += "".join(f"; the last of rank {r} is #{n}" for r, n in self.last.items())
        return said + self.out_of_step


def partings(
    run: Recording, collectives: Mapping[tuple[str, int], dict[int, Row]], coverage: Coverage
) -> Iterator[Parting]:
    """At most one for each group, in the order of their names."""
    members = {name: g.ranks for facts in run.facts.values() for name, g in facts.groups.items()}
    calls: dict[str, dict[int, dict[int, Row]]] = defaultdict(dict)
    for (group, seq), arrived in collectives.items():
        calls[group][seq] = arrived
    for group, by_seq in sorted(calls.items()):
        readable = [rank for rank in members.get(group, ()) if rank in run.ranks]
        found = _first(coverage, group, by_seq, readable)
        if found is not None:
            yield found


def _first(
    coverage: Coverage, group: str, by_seq: Mapping[int, Arrived], members: Collection[int]
) -> Parting | None:
    first: dict[int, int] = {}
    for seq, arrived in sorted(by_seq.items()):
        for rank in arrived:
            first.setdefault(rank, seq)
    begin = max(first.values(), default=0)
    for seq, arrived in sorted(by_seq.items()):
        if seq < begin:
            continue
        time = min(row["call_end"] for row in arrived.values())
        missing = [rank for rank in members if rank not in arrived]
        absent = [rank for rank in missing if coverage.would_hold(rank, time)]
        if absent or len({_call(row) for row in arrived.values()}) > 1:
            before = {r: [s for s, a in by_seq.items() if r in a] for r in absent}
            return Parting(
                group=group,
                seq=seq,
                arrived=arrived,
                absent=tuple(absent),
                last={rank: max(numbers) for rank, numbers in before.items() if numbers},
                out_of_step=_out_of_step(by_seq, begin, seq),
            )
    return None


def _out_of_step(by_seq: Mapping[int, Arrived], begin: int, end: int) -> str:
    """The first number that the ranks issued in different steps, if there is one."""
    for seq in sorted(number for number in by_seq if begin <= number <= end):
        steps: dict[int, list[int]] = defaultdict(list)
        for rank, row in by_seq[seq].items():
            if row["step"] is not None:
                steps[row["step"]].append(rank)
        if len(steps) > 1:
            said = ", ".join(f"step {step} on {_ranks(r)}" for step, r in sorted(steps.items()))
            return f"; out of step since #{seq}: {said}"
    return ""


def _calls(arrived: Arrived) -> str:
    """`all_reduce of 64 B on ranks 0-2; broadcast of 8 B on rank 3`."""
    ranks: dict[str, list[int]] = defaultdict(list)
    for rank, row in sorted(arrived.items()):
        ranks[_call(row)].append(rank)
    return "; ".join(f"{call} on {_ranks(by)}" for call, by in ranks.items())


def _call(row: Row) -> str:
    return f"{row['op']} of {row['bytes'] or 0:,} B"


def _ranks(ranks: Collection[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {compress(sorted(ranks))}"
