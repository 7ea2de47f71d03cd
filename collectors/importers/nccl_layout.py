"""When operations took place of which only the length was written down.

Without NCCL_INSPECTOR_DUMP_VERBOSE the Inspector writes how long the kernel of a collective took
on each rank, and when the record was written: not when the kernel began. What is known is the
order in each communicator, and that the kernels of one collective end together, whoever came late.
So each collective gets one end for all its ranks, as late as its records and the next one allow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from collectors.importers.nccl_records import Record

Key: TypeAlias = tuple[str, str, int]
"""Communicator, op and number of an operation; of a message also its ranks, in the op."""


def key_of(record: Record) -> Key:
    """The same for all members of a collective; a message has a key of its own on each rank."""
    member = record.member
    op = record.op if record.peer is None else f"{record.op} {member.place} {record.peer}"
    return member.communicator, op, record.number


def ends(records: Mapping[int, Iterable[Record]]) -> dict[Key, int]:
    """Ends (ns) of the operations of all ranks, each rank's in the order in which it did them.

    Two ranks, two all_reduces of 4 and 6 µs on rank 0, 3 and 6 µs on rank 1, written at 100 µs:
    the second ends at 100 on both and begins at 94, the first ends at 94, and began at 90 on
    rank 0 and at 91 on rank 1, who came last.
    """
    found: dict[Key, int] = {}
    for operations in _latest_first(records).values():
        next_begins: dict[int, int] = {}
        for key, members in operations:
            end = min(record.written for record in members)
            for record in members:
                end = min(end, next_begins.get(record.member.place, end))
            found[key] = end
            for record in members:
                next_begins[record.member.place] = end - record.duration
    return found


def _latest_first(
    records: Mapping[int, Iterable[Record]],
) -> dict[str, list[tuple[Key, list[Record]]]]:
    """Communicator → its operations, the last one first.

    Ranks lose their oldest records, so they agree on how many operations came after one.
    """
    after: dict[str, dict[Key, int]] = defaultdict(dict)
    members: dict[Key, list[Record]] = defaultdict(list)
    for of_rank in records.values():
        counts: dict[str, int] = defaultdict(int)
        for record in reversed(list(of_rank)):
            key = key_of(record)
            known = after[key[0]].get(key, counts[key[0]])
            after[key[0]][key] = min(known, counts[key[0]])
            counts[key[0]] += 1
            members[key].append(record)
    return {
        communicator: [(key, members[key]) for key in sorted(keys, key=lambda key: keys[key])]
        for communicator, keys in after.items()
    }
