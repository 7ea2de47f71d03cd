"""All communication of a run in shares that can be matched by themselves, one after the other.

The members of an operation find each other by group and number, whatever the step. So a share is
some groups (or, of a group that is too large, every n-th number): what its ranks tell of it gives
complete operations, and no more than one share has to be in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.partial_communication import PartialCommunication
from dashboard.analysis.dimensions import role_of
from dashboard.analysis.reduction import FAN_IN

if TYPE_CHECKING:
    from dashboard.runs import Recording

EVENTS: Final = 300_000
"""For which one share is meant: some 60,000 operations. Five times as many took gigabytes."""
OPERATIONS: Final = 60_000
"""Of a share, so many are matched at a time: they take 50 MB."""
_TABLES: Final = ("collectives", "sends", "receives")
"""Of a `PartialCommunication`."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Share:
    """The operations of `groups` whose number modulo `of` is `number`, and what tells of them:
    `ranks`. `rest`: also those of groups that no rank's facts name, or that the rank is not in.
    """

    groups: frozenset[str]
    ranks: tuple[int, ...]
    number: int = 0
    of: int = 1
    rest: bool = False


def shares(run: Recording) -> list[Share]:
    """The shares of a run, each of about `EVENTS` events that are in memory at a time."""
    return run.answer(_shares)


def asking(run: Recording, rank: int) -> Mapping[int, Share]:
    """The shares that the rank tells something, by their places."""
    return run.answer(_by_rank)[rank]


def _by_rank(run: Recording, steps: Collection[int]) -> dict[int, dict[int, Share]]:
    """The same of all ranks."""
    found: dict[int, dict[int, Share]] = {rank: {} for rank in run.ranks}
    for place, share in enumerate(shares(run)):
        for rank in share.ranks:
            found[rank][place] = share
    return found


def _shares(run: Recording, steps: Collection[int]) -> list[Share]:
    """Every part of a run asks for them, whatever its steps."""
    known = run.facts.keys() & set(run.ranks)
    # Every member tells of a group: of thousands of ranks it must not be looked through each time.
    named = {name: group for facts in run.facts.values() for name, group in facts.groups.items()}
    members = {
        name: tuple(rank for rank in group.ranks if rank in known) for name, group in named.items()
    }
    most = run.event_count / EVENTS
    if most <= 1 or not any(members.values()):
        count = max(int(np.ceil(most)), 1)
        every = frozenset(members)
        return [
            Share(groups=every, ranks=run.ranks, number=number, of=count, rest=True)
            for number in range(count)
        ]
    found = list(_bundled(run, members, most))
    return [*found, Share(groups=frozenset(), ranks=run.ranks, rest=True)]


def shared(
    part: PartialCommunication, asked_by: Mapping[int, Share]
) -> dict[int, PartialCommunication]:
    """What a rank tells of each share that asks it (`asking`), by the share's place. Records that
    nothing can be matched by are told to the first of the rest.
    """
    rest = min(place for place, share in asked_by.items() if share.rest)
    places = {name: _places(getattr(part, name), asked_by, rest) for name in _TABLES}
    return {
        place: PartialCommunication(
            **{
                name: getattr(part, name).filter(pa.array(found == place))
                for name, found in places.items()
            },
            lost=part.lost if place == rest else Counter(),
        )
        for place in asked_by
    }


def in_turns(found: PartialCommunication) -> Iterator[PartialCommunication]:
    """What all ranks tell of a share, as few operations at a time as are matched together."""
    rows = sum(getattr(found, name).num_rows for name in _TABLES)
    turns = max(-(-rows // OPERATIONS), 1)
    lost = found.lost
    for turn in range(turns):
        tables = {name: getattr(found, name) for name in _TABLES}
        if turns > 1:
            tables = {
                name: table.filter(pa.array(_mixed(table["seq"].to_numpy()) % turns == turn))
                for name, table in tables.items()
            }
        yield PartialCommunication(**tables, lost=lost)
        lost = Counter()


def _mixed(seq: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The numbers of a share are alike modulo its `of`, and would all fall into a few turns
    (Fibonacci hashing: Knuth, The Art of Computer Programming 3, section 6.4).
    """
    return (seq.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)


def _places(table: pa.Table, asked_by: Mapping[int, Share], rest: int) -> npt.NDArray[np.int64]:
    """To which share each row belongs."""
    groups = pc.unique(table["group"])
    first = [
        next((p for p, share in asked_by.items() if group in share.groups), rest)
        for group in groups.to_pylist()
    ]
    row = np.array(first, np.int64)[pc.index_in(table["group"], groups).to_numpy()]
    of = np.array([asked_by[place].of for place in first], np.int64)
    which = of[pc.index_in(table["group"], groups).to_numpy()]
    found: npt.NDArray[np.int64] = row + table["seq"].to_numpy() % np.maximum(which, 1)
    return found


def _bundled(
    run: Recording, members: Mapping[str, tuple[int, ...]], most: float
) -> Iterator[Share]:
    """The groups, those of neighbouring ranks together, as many as have the events of one share."""
    most /= sum(len(ranks) for ranks in members.values())
    bundle: dict[str, tuple[int, ...]] = {}
    told = 0.0
    for name, ranks in sorted(members.items(), key=lambda of: (of[0].partition(":")[0], of[1])):
        size = most * _at_a_time(name, ranks)
        if bundle and told + size > 1:
            yield from _numbered(bundle, int(np.ceil(told)))
            bundle, told = {}, 0.0
        bundle[name] = ranks
        told += size
    if bundle:
        yield from _numbered(bundle, int(np.ceil(told)))


def _at_a_time(name: str, ranks: Sequence[int]) -> int:
    """What so many ranks tell of a group is in memory together. Of a collective one row is left
    whenever `FAN_IN` ranks are joined, of a message what its two ends tell stays until the end.
    """
    messages = role_of(name.partition(":")[0]) == "pp"
    return len(ranks) if messages else min(len(ranks), FAN_IN)


def _numbered(bundle: Mapping[str, tuple[int, ...]], of: int) -> Iterator[Share]:
    ranks = tuple(sorted({rank for ranks in bundle.values() for rank in ranks}))
    for number in range(of if ranks else 0):
        yield Share(groups=frozenset(bundle), ranks=ranks, number=number, of=of)
