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

if TYPE_CHECKING:
    from dashboard.runs import Recording

EVENTS: Final = 300_000
"""For which one share is meant: some 60,000 operations, which take 50 MB while they are matched."""


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
    """The shares of a run, each of about `EVENTS` events."""
    return run.answer(_shares)


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
    part: PartialCommunication, rank: int, every: Sequence[Share]
) -> dict[int, PartialCommunication]:
    """What a rank tells of each share that asks it, by the share's place. Records that nothing
    can be matched by are told to the first of the rest.
    """
    asking = {place: share for place, share in enumerate(every) if rank in share.ranks}
    rest = min(place for place, share in asking.items() if share.rest)
    places = {
        name: _places(getattr(part, name), asking, rest)
        for name in ("collectives", "sends", "receives")
    }
    return {
        place: PartialCommunication(
            **{
                name: getattr(part, name).filter(pa.array(found == place))
                for name, found in places.items()
            },
            lost=part.lost if place == rest else Counter(),
        )
        for place in asking
    }


def _places(table: pa.Table, asking: Mapping[int, Share], rest: int) -> npt.NDArray[np.int64]:
    """To which share each row belongs."""
    groups = pc.unique(table["group"])
    first = [
        next((p for p, share in asking.items() if group in share.groups), rest)
        for group in groups.to_pylist()
    ]
    row = np.array(first, np.int64)[pc.index_in(table["group"], groups).to_numpy()]
    of = np.array([asking[place].of for place in first], np.int64)
    which = of[pc.index_in(table["group"], groups).to_numpy()]
    found: npt.NDArray[np.int64] = row + table["seq"].to_numpy() % np.maximum(which, 1)
    return found


def _bundled(
    run: Recording, members: Mapping[str, tuple[int, ...]], most: float
) -> Iterator[Share]:
    """The groups, those of neighbouring ranks together, as many as have the events of one share."""
    whole = sum(len(ranks) for ranks in members.values())
    bundle: dict[str, tuple[int, ...]] = {}
    told = 0
    for name, ranks in sorted(members.items(), key=lambda item: (item[0].partition(":")[0], item)):
        bundle[name] = ranks
        told += len(ranks)
        size = most * told / whole
        if size >= 1:
            yield from _numbered(run, bundle, int(np.ceil(size)))
            bundle, told = {}, 0
    if bundle:
        yield from _numbered(run, bundle, 1)


def _numbered(run: Recording, bundle: Mapping[str, tuple[int, ...]], of: int) -> Iterator[Share]:
    asked = {rank for ranks in bundle.values() for rank in ranks}
    ranks = tuple(rank for rank in run.ranks if rank in asked)
    for number in range(of if ranks else 0):
        yield Share(groups=frozenset(bundle), ranks=ranks, number=number, of=of)
