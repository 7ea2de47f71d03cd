"""What makes answers that follow the dependency graph of a run less sure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from dashboard.analysis.health import health
from dashboard.analysis.lanes_of_kinds import works_on_device
from dashboard.analysis.unseen_waits import ends_are_unknown
from tracer.schema import COMPUTE_KINDS
from tracer.topology import compress

if TYPE_CHECKING:
    from dashboard.runs import Recording


def reservations(run: Recording) -> tuple[str, ...]:
    """In words, one line each; empty where the whole run was recorded by us."""
    return run.answer(_of_all)


def _of_all(run: Recording, steps: Collection[int]) -> tuple[str, ...]:
    """Asked several times, and looks at all ranks."""
    return tuple(_reservations(run))


def _reservations(run: Recording) -> Iterator[str]:
    if run.meta.source is not None and any(
        works_on_device(run, rank, COMPUTE_KINDS) for rank in run.ranks
    ):
        yield (
            "imported work of devices: what waits for what is known of the hosts that issued it, "
            "and is right only where they waited for the device"
        )
    found = health(run)
    if found.missing:
        yield (
            f"the record of {_ranks(found.missing)} is missing: what others waited for there "
            "counts as their own time"
        )
    if found.dropped:
        yield (
            f"{sum(found.dropped.values()):,} events of {_ranks(tuple(found.dropped))} were "
            "dropped: their time counts as idle, and what waited for them as work"
        )
    if any(ends_are_unknown(run, rank) for rank in run.ranks):
        yield (
            "collectives that C++ issued (DistributedDataParallel on gloo): nothing tells when "
            "they ended; a backward is taken to wait from the last one that it issued to its end, "
            "and any other waiting for them counts as work"
        )
    if found.clock_bound_ns is None:
        yield "the clocks are not aligned: what ranks waited for each other is not known"


def _ranks(ranks: tuple[int, ...]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {compress(sorted(ranks))}"
