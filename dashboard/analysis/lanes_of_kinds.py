"""On which lanes a rank has events of each kind: it says whose work counts, and is asked often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, TypeAlias

from dashboard.analysis.rows_by_key import numbered, words_numbered

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
    """`part` holds all events of the rank, and its lanes are those of `run`, which need not be read
    for them.
    """
    run.tell_of_rank(_found, rank, lanes_of_kinds(part, rank))


def works_on_device(run: Recording, rank: int, kinds: Collection[str]) -> bool:
    """Whether a device recorded events of the rank that are of one of these kinds."""
    lanes = lanes_of_kinds(run, rank)
    return any(lane.startswith("device:") for kind in kinds for lane in lanes.get(kind, ()))


def _found(run: Recording, rank: int) -> Lanes:
    events = run.events(ranks=[rank], columns=("kind", "lane"))
    (kinds, kind), (lanes, lane) = (words_numbered(events[name]) for name in ("kind", "lane"))
    first, _ = numbered(kind, lane)
    found: dict[str, set[str]] = defaultdict(set)
    for k, n in zip(kind[first].tolist(), lane[first].tolist(), strict=True):
        found[str(kinds[k])].add(str(lanes[n]))
    return {name: frozenset(words) for name, words in found.items()}
