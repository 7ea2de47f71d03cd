"""On which lanes a rank has events of each kind: it says whose work counts, and is asked often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from dashboard.analysis.rows_by_key import numbered, words_numbered
from dashboard.runs.columns import in_parts

if TYPE_CHECKING:
    from dashboard.runs import Recording

Lanes: TypeAlias = Mapping[str, frozenset[str]]
"""By kind."""


def lanes_of_kinds(run: Recording, rank: int) -> Lanes:
    """Of one rank, looked for once.

    forward on host:main, forward on device:7 → forward: host:main, device:7
    """
    return run.answer_of_rank(_found, rank)


def same_lanes(run: Recording, part: Recording, rank: int) -> None:
    """`part` holds the rank in some steps, and is to know the lanes of all of them. If it holds all
    steps, the run need not be read for that.
    """
    if len(part.steps) == len(run.steps):
        run.tell_of_rank(_found, rank, lanes_of_kinds(part, rank))
    else:
        part.tell_of_rank(_found, rank, lanes_of_kinds(run, rank))


def works_on_device(run: Recording, rank: int, kinds: Collection[str]) -> bool:
    """Whether a device recorded events of the rank that are of one of these kinds."""
    lanes = lanes_of_kinds(run, rank)
    return any(lane.startswith("device:") for kind in kinds for lane in lanes.get(kind, ()))


def _found(run: Recording, rank: int) -> Lanes:
    found: dict[str, set[str]] = defaultdict(set)

    def note(events: pa.Table) -> None:
        (kinds, kind), (lanes, lane) = (words_numbered(events[name]) for name in ("kind", "lane"))
        first, _ = numbered(kind, lane)
        for k, n in zip(kind[first].tolist(), lane[first].tolist(), strict=True):
            found[str(kinds[k])].add(str(lanes[n]))

    in_parts(run.tables, rank, ("kind", "lane"), note)
    return {name: frozenset(words) for name, words in found.items()}
