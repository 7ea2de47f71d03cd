"""The arrows that viewers draw between events: messages, members of collectives, and the way of an
operation from the call on the host to the device.

An arrow is a number that the events at its ends share. It is a hash of what names the operation
(group and number, in the format of the trace), so ranks are gone through one by one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dashboard.runs.words import have, where
from tracer.schema import COMMUNICATION_KINDS

Ids = NDArray[np.uint64]

NONE: Final = 0
_COLLECTIVE, _MESSAGE, _OPERATION = 1, 2, 3
"""Kept apart in the hash, so that a collective and a message of one number differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """For each event of a rank the arrows that it has; 0 where it has none.

    collective: of calls, shared by all members, at their beginnings (when each arrived).
    sent: of the calls of sends, at their beginnings. received: the same number, at the end of what
        tells when the message was there (transfer, else wait, else call).
    operation: shared by the call on the host and what it started on the device, at beginnings.
    """

    collective: Ids
    sent: Ids
    received: Ids
    operation: Ids


def flows(events: pa.Table, rank: int) -> Flows:
    """The arrows of one rank's events."""
    rows = events.num_rows
    on_host = _mask(where(events["lane"], lambda lane: pc.starts_with(lane, "host:")))
    called = on_host & _mask(have(events["kind"], COMMUNICATION_KINDS))
    sends, receives = (_mask(have(events["name"], (op,))) for op in ("send", "recv"))
    group, seq = _hash_of_words(events["group"]), _numbers(events["seq"])
    named = called & _mask(pc.and_(pc.is_valid(events["group"]), pc.is_valid(events["seq"])))
    addressed = named & _mask(pc.is_valid(events["peer"]))
    peer, here = _numbers(events["peer"]), np.full(rows, rank, np.uint64)
    source, target = np.where(sends, here, peer), np.where(sends, peer, here)
    message = np.where(addressed, _mixed(_MESSAGE, group, source, target, seq), NONE)
    known = _mask(pc.is_valid(events["correlation"]))
    correlation = _numbers(events["correlation"])
    on_device = known & ~on_host & ~_mask(have(events["kind"], ("wait",)))
    both = called & known & np.isin(correlation, correlation[on_device])
    both |= on_device & np.isin(correlation, correlation[both])
    return Flows(
        collective=np.where(named & ~sends & ~receives, _mixed(_COLLECTIVE, group, seq), NONE),
        sent=np.where(sends, message, NONE),
        received=_at_completion(events, receives, on_host, message),
        operation=np.where(both, _mixed(_OPERATION, here, correlation), NONE),
    )


def _at_completion(
    events: pa.Table, receives: NDArray[np.bool_], on_host: NDArray[np.bool_], message: Ids
) -> Ids:
    """The message of each receive's call, moved to the event whose end is its completion.

    Before (correlation 7)          After
    recv  host:main   message 5     0
    wait  host:main   0             5
    """
    places = np.flatnonzero(receives)
    is_wait = _mask(have(events["kind"], ("wait",)))[places]
    phase = np.where(is_wait, 1, np.where(on_host[places], 0, 2))
    correlation = events["correlation"].fill_null(-1).to_numpy()[places]
    # Calls without a correlation stand for themselves.
    key = np.where(correlation < 0, -1 - places, correlation)
    order = np.lexsort((places, phase, key))
    key, places = key[order], places[order]
    changes = np.flatnonzero(key[1:] != key[:-1]) + 1
    first = np.append(0, changes)[: len(key)].astype(np.int64)
    last = np.append(changes, len(key))[: len(first)].astype(np.int64) - 1
    found = np.zeros(events.num_rows, np.uint64)
    found[places[last]] = message[places[first]]
    return found


def _mixed(*parts: int | Ids) -> Ids:
    """One number of several: the finalizer of splitmix64 (Steele et al., OOPSLA 2014) over each."""
    size = max((len(part) for part in parts if not isinstance(part, int)), default=0)
    mixed = np.zeros(size, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            mixed = (mixed ^ np.asarray(part, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
    return np.maximum(mixed, np.uint64(1))


def _hash_of_words(column: pa.ChunkedArray) -> Ids:
    """A number for each word, the same on every rank."""
    parts = [np.zeros(0, np.uint64)]
    for chunk in column.chunks:
        words = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        hashes = [_hash_of(word) for word in words.dictionary.to_pylist()]
        known = np.array([*hashes, 0], np.uint64)
        parts.append(known[words.indices.fill_null(len(hashes)).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def _hash_of(word: str | None) -> int:
    data = (word or "").encode()
    return zlib.crc32(data) | zlib.adler32(data) << 32


def _numbers(column: pa.ChunkedArray) -> Ids:
    return np.asarray(column.fill_null(0).to_numpy(), np.int64).astype(np.uint64)


def _mask(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(), bool)
