"""Can the numbers of a run be trusted: what was not recorded, not readable, or not on one clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboard.analysis.results import Result
from tracer.topology import compress

if TYPE_CHECKING:
    from dashboard.runs import Recording


@dataclass(kw_only=True, frozen=True)
class Health(Result):
    """missing: ranks of the run without readable events. dropped: events that found no room, by
    rank that has any. clock_bound_ns: the largest error between two ranks' times; None where they
    do not compare. out_of_order: operations whose effect comes before the cause. problems: how
    many the reader found, these included.
    """

    missing: tuple[int, ...]
    dropped: dict[int, int]
    clock_bound_ns: int | None
    out_of_order: int
    problems: int

    @property
    def is_good(self) -> bool:
        """Whether nothing is to be known of the numbers."""
        return not any(self.said())

    def said(self) -> Iterator[str]:
        """What is wrong, in words."""
        if self.missing:
            yield f"{_ranks(self.missing)} missing"
        if self.dropped:
            total = sum(self.dropped.values())
            yield f"{total:,} events dropped on {_ranks(tuple(self.dropped))}"
        if self.clock_bound_ns is None:
            yield "clocks not aligned"
        if self.out_of_order:
            yield f"{self.out_of_order:,} operations out of order"
        if self.problems:
            yield f"{self.problems} problem{'s' * (self.problems > 1)} named above"


def health(run: Recording) -> Health:
    """Of the whole run, whatever steps are looked at."""
    return Health(
        missing=tuple(sorted({*range(run.meta.world_size)} - {*run.ranks})),
        dropped={rank: facts.dropped for rank, facts in sorted(run.facts.items()) if facts.dropped},
        clock_bound_ns=run.clock.bound_ns,
        out_of_order=run.clock.violations,
        problems=len(run.problems),
    )


def _ranks(ranks: tuple[int, ...]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {compress(sorted(ranks))}"
