"""From the entries of a flight recorder's dump to operations: what was one launch, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from collectors.flight_entries import Entry, entry_of
from collectors.importers.flight_dump import Raw

COALESCED: Final = "coalesced"
_MESSAGES: Final = ("send", "recv")
_PEERS: Final = re.compile("(?:send ([0-9]{1,7})->([0-9]{1,7})|recv ([0-9]{1,7})<-([0-9]{1,7}))")


@dataclass(kw_only=True, slots=True)
class Operation:
    """One operation of a rank.

    `peer` is the rank in the group at the other end of a message. `place` is where its transfer
    is put, (start, duration) in ns, None where it was not timed. `pending` says where an operation
    was called from that was not complete at the dump (nothing if that is unknown), else it is None.
    """

    op: str
    group: str
    description: str
    seq: int
    created: int
    bytes: int
    elements: int
    dtype: str | None
    peer: int | None
    place: tuple[int, int] | None
    pending: str | None

    @property
    def is_message(self) -> bool:
        """Whether it is a send or a receive."""
        return self.op in _MESSAGES


@dataclass(kw_only=True, slots=True)
class _Launch:
    """Entries that the backend started at once."""

    parts: list[tuple[Entry, Raw]]
    whole: tuple[Entry, Raw] | None
    place: tuple[int, int] | None = None

    @property
    def timed(self) -> tuple[Entry, Raw]:
        """The entry that carries the times of all."""
        return self.whole or self.parts[-1]


def operations_of(raws: Sequence[Raw], group_sizes: dict[str, int]) -> Iterator[Operation]:
    """The operations of one rank, oldest first.

    A coalesced collective is one operation, whose payload is that of its parts together; coalesced
    messages remain messages.
    """
    launches = _launches(raws, group_sizes)
    _place(launches)
    for launch in launches:
        parts = launch.parts or [launch.timed]
        if any(entry.op in _MESSAGES for entry, _ in parts):
            for entry, raw in parts:
                yield _operation(launch, [(entry, raw)])
        else:
            yield _operation(launch, parts)


def _launches(raws: Sequence[Raw], group_sizes: dict[str, int]) -> list[_Launch]:
    """Only the entries of one launch share all three: group, number of the collective, and number
    of the message.
    """
    found: dict[tuple[str, int, int], _Launch] = {}
    for raw in raws:
        entry = entry_of(raw, group_sizes[raw["process_group"][0]])
        launch = found.setdefault(
            (entry.group_name, entry.seq, raw["p2p_seq_id"]), _Launch(parts=[], whole=None)
        )
        if entry.op == COALESCED:
            launch.whole = entry, raw
        else:
            launch.parts.append((entry, raw))
    return list(found.values())


def _place(launches: Sequence[_Launch]) -> None:
    """Put the transfers that were timed where they can have been.

    The launches of a group run one after the other, and one that was found complete had ended by
    then: from the last to the first, each is put as late as that allows.
    """
    begun: dict[str, int] = {}
    for launch in reversed(launches):
        entry, raw = launch.timed
        if entry.duration is None or raw["completed"] is None:
            continue
        end = min(raw["completed"], begun.get(entry.group_name, raw["completed"]))
        start = max(end - entry.duration, entry.created)
        begun[entry.group_name] = start
        launch.place = start, entry.duration


def _operation(launch: _Launch, parts: Sequence[tuple[Entry, Raw]]) -> Operation:
    entry, raw = parts[0]
    return Operation(
        op=entry.op,
        group=entry.group_name,
        description=entry.group_desc,
        seq=entry.seq,
        created=entry.created,
        bytes=sum(part.bytes for part, _ in parts),
        elements=sum(part.elements for part, _ in parts),
        dtype=entry.dtype,
        peer=_peer(raw["profiling_name"]),
        place=launch.place,
        pending=raw["caller"] if is_pending(launch.timed[1]) else None,
    )


def _peer(profiling_name: str) -> int | None:
    """`nccl:send 0->1` and `nccl:recv 0<-1` → 1, both on rank 0 of the group."""
    match = _PEERS.search(profiling_name)
    return None if match is None else int(match[2] or match[4])


def is_pending(raw: Raw) -> bool:
    """Gloo notes only whether an operation is over; on NCCL what timed out is over as well."""
    if raw["profiling_name"].startswith("gloo:"):
        return not raw["retired"]
    return bool(raw["state"] != "completed")
