"""What of a run is exported: which ranks and steps, read rank by rank so that memory is bounded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs import Recording
from dashboard.runs.opened import LazyTables
from dashboard.runs.words import have
from tracer.errors import UsageError

_LISTED: Final = 8


@dataclass(frozen=True)
class Selection:
    """Some ranks and steps of a run. `steps` is None where all events are wanted, also those that
    belong to no step.
    """

    run: Recording
    ranks: tuple[int, ...]
    steps: tuple[int, ...] | None = None

    def events(self, rank: int) -> pa.Table:
        """The events of one rank, in order of start, on the common clock."""
        tables = self.run.tables
        table = tables.once(rank) if isinstance(tables, LazyTables) else tables[rank]
        if self.steps is None:
            return table
        return table.filter(pc.is_in(table["step"], pa.array(self.steps, pa.int32())))

    def counters(self, rank: int) -> pa.Table:
        """The counters of one rank: rank, ts, name, value; those sampled in the chosen steps."""
        table = self.run.counters.filter(pc.equal(self.run.counters["rank"], rank))
        if self.steps is None or not table.num_rows:
            return table
        windows = self.events(rank)
        windows = windows.filter(have(windows["kind"], ("step",)))
        ends = pc.add(windows["start"], windows["duration"])
        first, last = pc.min(windows["start"]), pc.max(ends)
        inside = pc.and_(pc.greater_equal(table["ts"], first), pc.less_equal(table["ts"], last))
        return table.filter(inside)

    @cached_property
    def origin_ns(self) -> int:
        """To be added to every time, so that none is negative: counters may begin before events."""
        earliest = pc.min(self.run.counters["ts"]).as_py()
        return max(0, -(earliest or 0))


def select(
    run: Recording,
    ranks: Collection[int] | None = None,
    steps: Collection[int] | None = None,
) -> Selection:
    """Those of `ranks` and `steps` (all by default), checked.

    Raises:
        UsageError: a rank whose events are not here, or no step at all.
    """
    chosen = run.ranks if ranks is None else tuple(sorted(set(ranks)))
    absent = [rank for rank in chosen if rank not in run.ranks]
    if absent:
        named = ", ".join(map(str, absent[:_LISTED])) + ", …" * (len(absent) > _LISTED)
        raise UsageError(
            f"{run.path}: no events of rank {named}; it has ranks {run.ranks[0]} to {run.ranks[-1]}"
        )
    wanted = None if steps is None else tuple(sorted(set(steps)))
    return Selection(run, chosen, wanted)
