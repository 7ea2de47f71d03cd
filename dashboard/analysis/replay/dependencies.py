"""Who waited for whom: the waits that another rank ended, from the operations of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa

from dashboard.analysis.communication.matching import Row, matched
from dashboard.analysis.replay.backward_walk import Dependency


def dependencies(operations: pa.Table) -> dict[int, list[Dependency]]:
    """Dependencies by waiting rank, each rank's in order of `end`.

    `operations` is the table of `dashboard.analysis.operations`. `Dependency.operation` is the
    row number there. A wait counts only if the other rank acted after it began:

    * a receive waits for its send, if that was issued while it waited;
    * a send waits for its receive, if that was posted while it waited;
    * a collective waits for its last member to arrive.
    """
    rows: list[Row] = operations.to_pylist()
    for number, row in enumerate(rows):
        row["number"] = number
    messages, collectives = matched(rows)
    found: dict[int, list[Dependency]] = defaultdict(list)
    for ends in messages.values():
        if len(ends) == 2:
            for waiting, cause in ((ends["recv"], ends["send"]), (ends["send"], ends["recv"])):
                found[waiting["rank"]] += _caused(waiting, cause)
    for arrived in collectives.values():
        members = arrived.values()
        last = max(members, key=lambda row: (row["start"], row["rank"]))
        for row in members:
            if row is not last:
                found[row["rank"]] += _caused(row, last)
    return {rank: sorted(waits) for rank, waits in found.items()}


def _caused(waiting: Row, cause: Row) -> Iterator[Dependency]:
    waited = waiting["wait_start"] is not None
    begin = waiting["wait_start"] if waited else waiting["start"]
    end = waiting["wait_end"] if waited else waiting["call_end"]
    if begin < cause["start"] < end:
        yield Dependency(
            end=end,
            cause=cause["start"],
            cause_rank=cause["rank"],
            operation=waiting["number"],
        )
