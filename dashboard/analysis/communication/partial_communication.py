"""What some ranks, in some steps, tell of the operations in which ranks meet.

The members of a collective, and the two ends of a message, lie in the files of different ranks. So
each rank's part is reduced by itself, and parts are joined, in any grouping that keeps their
order: `joined([joined([a, b]), c])` is `joined([a, b, c])`. Joined, a collective is one row,
however many of its members are in it. bandwidth.py turns all parts together into numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.equal_rows import equal_rows

P2P: Final = "p2p"
UNKNOWN_GROUP: Final = "unknown"

Lost: TypeAlias = Counter[tuple[str, str]]
"""(group, op) → operations that are not complete."""

_COLLECTIVE: Final = ("group", "seq")
_MESSAGE: Final = ("group", "src", "dst", "seq")

_OF_COLLECTIVE: Final = {
    "op": "first",
    "dim": "first",
    "step": "min",
    "bytes": "max",
    "dtype": "first",
    "members": "sum",
    "first": "min",
    "last": "max",
    "end": "max",
    "seen": "sum",
    "watched_from": "max",
}
"""How the columns of two rows of one collective become one."""
_OF_END: Final = dict.fromkeys(
    ("dim", "step", "bytes", "dtype", "start", "end", "watched_from"), "first"
) | {"times": "sum"}
"""The first row of a number counts: one that is used again (by a group that was made anew, or in a
damaged file) would pair every send with every receive of that number."""


@dataclass(kw_only=True, frozen=True)
class PartialCommunication:
    """collectives: group, seq, op, dim, step, bytes, dtype, members (how many are in it), first and
        last (ns, arrivals), end (ns, the last completion), seen (ns, over its members, from arrival
        to completion), watched_from, culprit (the last to arrive).
    sends, receives: group, src, dst, seq, dim, step, bytes, dtype, start, end, watched_from, times
        (how often the number was used).
    lost: records that name no group, number or peer by which they could be matched.
    """

    collectives: pa.Table
    sends: pa.Table
    receives: pa.Table
    lost: Lost


def partial_communication(operations: pa.Table) -> PartialCommunication:
    """The part of the ranks in `operations` (operations.py)."""
    is_p2p = pc.is_in(operations["op"], pa.array(["send", "recv"]))
    calls, lost = _identified(operations.filter(pc.invert(is_p2p)), ("group", "seq"))
    ends, lost_ends = _identified(operations.filter(is_p2p), ("group", "seq", "peer"))
    is_send = pc.equal(ends["op"], "send")
    return PartialCommunication(
        collectives=_collectives(_arrivals(calls)),
        sends=_once(_ends(ends.filter(is_send), "rank", "peer")),
        receives=_once(_ends(ends.filter(pc.invert(is_send)), "peer", "rank")),
        lost=lost + lost_ends,
    )


def joined(parts: Sequence[PartialCommunication]) -> PartialCommunication:
    """Several parts as one: by rank, and by step within a rank."""
    if len(parts) == 1:
        return parts[0]
    return PartialCommunication(
        collectives=_collectives(pa.concat_tables([part.collectives for part in parts])),
        sends=_once(pa.concat_tables([part.sends for part in parts])),
        receives=_once(pa.concat_tables([part.receives for part in parts])),
        lost=sum((part.lost for part in parts), Counter()),
    )


def counted(groups: Sequence[str], ops: Sequence[str] | str) -> Lost:
    """How often each pair occurs."""
    pairs = zip(groups, [ops] * len(groups) if isinstance(ops, str) else ops, strict=True)
    return Counter(pairs)


def _identified(table: pa.Table, keys: Sequence[str]) -> tuple[pa.Table, Lost]:
    """The rows by whose `keys` the members of an operation find each other, and the others."""
    known = reduce(pc.and_, (pc.is_valid(table[key]) for key in keys))
    others = table.filter(pc.invert(known))
    groups = pc.fill_null(others["group"], UNKNOWN_GROUP).to_pylist()
    lost = counted(groups, P2P if "peer" in keys else others["op"].to_pylist())
    return table.filter(known), lost


def _arrivals(calls: pa.Table) -> pa.Table:
    """Each member's call as a row of `PartialCommunication.collectives`."""
    return pa.table(
        {
            **{name: calls[name] for name in ("group", "seq", "op", "dim", "step", "bytes")},
            "dtype": calls["dtype"],
            "members": pa.repeat(pa.scalar(1, pa.int64()), calls.num_rows),
            "first": calls["start"],
            "last": calls["start"],
            "end": calls["end"],
            "seen": pc.subtract(calls["end"], calls["start"]),
            "watched_from": calls["watched_from"],
            "culprit": calls["rank"],
        }
    )


def _collectives(rows: pa.Table) -> pa.Table:
    """Rows of one collective as one, in order of group and number.

    Before                                          After
    tp:0-1 #4, first 10, last 10, culprit 0         tp:0-1 #4, first 10, last 12, culprit 1
    tp:0-1 #4, first 12, last 12, culprit 1
    """
    found = equal_rows(rows, _COLLECTIVE)
    merged = found.merged(_OF_COLLECTIVE)
    culprits = found.of_last("culprit", by="last")
    return merged.append_column("culprit", culprits)


def _ends(table: pa.Table, source: str, destination: str) -> pa.Table:
    names = ("dim", "step", "bytes", "dtype", "start", "end", "watched_from")
    return pa.table(
        {
            "group": table["group"],
            "src": table[source],
            "dst": table[destination],
            "seq": table["seq"],
            **{name: table[name] for name in names},
            "times": pa.repeat(pa.scalar(1, pa.int64()), table.num_rows),
        }
    )


def _once(ends: pa.Table) -> pa.Table:
    found = equal_rows(ends, _MESSAGE)
    return ends if found.are_single else found.by_first().merged(_OF_END)
