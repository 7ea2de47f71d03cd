"""Where ranks meet: operations that tie instants of one rank to instants of others.

Nothing is received before it was sent, and no collective that all members wait for ends on one
of them before the last has arrived. So each meeting has causes (a send's start, each member's
arrival) and effects (a receive's end, each member's end), and no effect may come before a cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.clock_map import Floats, Ints
from dashboard.runs.columns import numbers
from tracer.arrays import bool_array, numpy_numbers, word_array

Flags: TypeAlias = npt.NDArray[np.bool_]

ALL_WAIT_FOR_ALL: Final = ("all_reduce", "all_gather", "reduce_scatter", "barrier")
"""Collectives that end nowhere before all have arrived; an all_to_all may have nothing to send."""

MOST_ROWS: Final = 1_000_000
"""Of a larger run every so-manieth operation is looked at, the same ones on all ranks."""

_FIRST_UNHOOKED: Final = 1 << 40
"""From this number on the time of issue is known, and no end (docs/trace-format.md)."""

_NEVER: Final = np.iinfo(np.int64).min
_NOTHING: Final = np.zeros(0, np.int64)


@dataclass(kw_only=True, slots=True, frozen=True)
class Meetings:
    """One row per meeting and rank, sorted by meeting. `cause` and `effect` are raw ns, `_NEVER`
    where the rank has none (a sender ends before its message arrives; a receiver causes nothing).
    """

    meeting: Ints
    rank: Ints
    cause: Ints
    effect: Ints

    def __len__(self) -> int:
        return len(self.meeting)

    @property
    def has_cause(self) -> Flags:
        """The rows of ranks that others waited for."""
        return np.not_equal(self.cause, _NEVER)

    @property
    def has_effect(self) -> Flags:
        """The rows of ranks that waited for others."""
        return np.not_equal(self.effect, _NEVER)

    def of(self, rows: Flags) -> Meetings:
        """Some of the rows."""
        return Meetings(
            meeting=self.meeting[rows],
            rank=self.rank[rows],
            cause=self.cause[rows],
            effect=self.effect[rows],
        )


@dataclass(kw_only=True, slots=True, frozen=True)
class _Operations:
    """What a rank did, channel by channel, in each in order of `seq`. A channel is a group, and of
    messages the ranks that send and receive, else -1 and -1: `channels` is of shape (3, channels),
    `counts` says how many operations each has. `cause` and `effect` as in `Meetings`.
    """

    rank: int
    channels: Ints
    counts: Ints
    seq: Ints
    cause: Ints
    effect: Ints


class Encounters:
    """The operations of ranks, shown one rank after the other in order of their numbers: 24 bytes
    of each, of which `meetings` makes rows.
    """

    def __init__(self) -> None:
        self._groups: dict[str, int] = {}
        self._operations: list[_Operations] = []

    def add(self, rank: int, table: pa.Table) -> None:
        """The events of one more rank (raw times)."""
        self._operations.append(_operations_of(rank, table, self._groups))

    def meetings(self, hosts: Mapping[int, str]) -> Meetings:
        """Those in channels that ranks of several hosts have used. Nothing is kept any more."""
        operations, self._operations = self._operations, []
        total = sum(len(of.seq) for of in operations)
        if total == 0:
            return Meetings(**dict.fromkeys(("meeting", "rank", "cause", "effect"), _NOTHING))
        step = -(-total // MOST_ROWS)
        # each rank's operations make room for its rows
        parts = [
            _rows(operations.pop(0), channels, step)
            for channels in _crossing_channels(operations, hosts)
        ]
        channel, seq, rank, cause, effect = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        del parts  # as large, and with what reading left of the same size again
        pa.default_memory_pool().release_unused()
        order = np.lexsort((seq, channel))  # ranks are in order already
        is_new = np.ones(len(order), np.bool_)
        is_new[1:] = np.diff(channel[order]) != 0
        is_new[1:] |= np.diff(seq[order]) != 0
        del channel, seq
        meeting = np.cumsum(is_new) - 1
        several = np.bincount(meeting)[meeting] > 1
        order = order[several]
        return Meetings(
            meeting=meeting[several], rank=rank[order], cause=cause[order], effect=effect[order]
        )


def latest_by_meeting(meeting: Ints, values: Floats, rank_host: Ints) -> tuple[Floats, Floats]:
    """For each row the largest value among the rows of its meeting on other hosts, and on all.

    Rows are sorted by meeting; −inf where there is none.
    """
    if not len(meeting):
        return np.zeros(0), np.zeros(0)
    order = np.lexsort((values, meeting))
    best = np.full(int(meeting[-1]) + 1, -np.inf)
    host_of_best = np.full(len(best), -1, np.int64)
    best[meeting[order]] = values[order]  # the last write of a meeting is its largest value
    host_of_best[meeting[order]] = rank_host[order]
    elsewhere = rank_host[order] != host_of_best[meeting[order]]
    second = np.full(len(best), -np.inf)
    second[meeting[order][elsewhere]] = values[order][elsewhere]
    is_own = host_of_best[meeting] == rank_host
    return np.where(is_own, second[meeting], best[meeting]), best[meeting]


def distinct(columns: Ints) -> tuple[Ints, Ints]:
    """The different columns in their order, and which of them each column is.

    `[[2, 1, 2], [0, 0, 0]]` → `[[1, 2], [0, 0]]`, `[1, 0, 1]`: what `numpy.unique` of columns says,
    which takes several times as long and as much memory to compare them as records.
    """
    order = np.lexsort(columns[::-1])
    ordered = columns[:, order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    which = np.empty(len(order), np.int64)
    which[order] = np.cumsum(is_new) - 1
    return ordered[:, is_new], which


def crossing(meeting: Ints, host: Ints) -> Flags:
    """The rows of meetings in which more than one host takes part."""
    if not len(meeting):
        return np.zeros(0, np.bool_)
    first = np.full(int(meeting.max()) + 1, -1, np.int64)
    first[meeting[::-1]] = host[::-1]
    mixed = np.zeros(len(first), np.bool_)
    mixed[meeting[host != first[meeting]]] = True
    return mixed[meeting]


def _crossing_channels(
    operations: Sequence[_Operations], hosts: Mapping[int, str]
) -> list[tuple[Ints, Flags]]:
    """By rank the number of each of its channels among all, and whether other hosts use it, too."""
    numbers_of = {name: number for number, name in enumerate(dict.fromkeys(hosts.values()))}
    lengths = [len(of.counts) for of in operations]
    _, which = distinct(np.concatenate([of.channels for of in operations], axis=1))
    host = np.repeat([numbers_of[hosts[of.rank]] for of in operations], lengths)
    ends = np.cumsum(lengths)[:-1]
    return list(zip(np.split(which, ends), np.split(crossing(which, host), ends), strict=True))


def _rows(of: _Operations, channels: tuple[Ints, Flags], step: int) -> tuple[Ints, ...]:
    """Channel, seq, rank, cause and effect of every `step`th operation in channels that cross."""
    which, crosses = channels
    kept = np.flatnonzero(np.repeat(crosses, of.counts) & (of.seq % step == 0))
    rank = np.full(len(kept), of.rank)
    return np.repeat(which, of.counts)[kept], of.seq[kept], rank, of.cause[kept], of.effect[kept]


def _operations_of(rank: int, table: pa.Table, groups: dict[str, int]) -> _Operations:
    kind, name = _words(table, "kind"), _words(table, "name")
    is_hooked = bool_array(numbers(table["seq"], null=_FIRST_UNHOOKED) < _FIRST_UNHOOKED)
    known = pc.and_(pc.is_valid(table["group"]), is_hooked)
    wanted = pc.is_in(kind, word_array(["collective", "send", "recv", "wait"]))
    useful = pc.is_in(name, word_array([*ALL_WAIT_FOR_ALL, "send", "recv"]))
    table = table.filter(pc.and_(known, pc.and_(wanted, useful)))
    on_device = pc.starts_with(_words(table, "lane"), "device:")
    if pc.any(on_device).as_py():
        table = table.filter(on_device)  # the host only launches there
    if table.num_rows == 0:
        none = np.zeros((4, 0), np.int64)
        return _in_channels(rank, none, _NOTHING, _NOTHING)
    is_wait = _are(_words(table, "kind"), "wait")
    is_send, is_recv = (_are(_words(table, "name"), name) for name in ("send", "recv"))
    group = pc.dictionary_encode(_words(table, "group")).combine_chunks()
    number = [groups.setdefault(word, len(groups)) for word in group.dictionary.to_pylist()]
    peer = numbers(table["peer"], null=-1).astype(np.int64)
    source = np.where(is_send, rank, np.where(is_recv, peer, -1))
    destination = np.where(is_send, peer, np.where(is_recv, rank, -1))
    start, seq = numbers(table["start"]), numbers(table["seq"])
    end = start + numbers(table["duration"])
    keys = np.stack([np.array(number)[numpy_numbers(group.indices)], source, destination, seq])
    anonymous = (is_send | is_recv) & (peer < 0)
    return _joined(rank, keys, start, end, is_wait, ~is_send, ~is_recv, ~anonymous)


def _joined(
    rank: int,
    keys: Ints,
    start: Ints,
    end: Ints,
    is_wait: Flags,
    waits: Flags,
    causes: Flags,
    known: Flags,
) -> _Operations:
    """Call and wait of an operation in one column.

    Where nobody waited for it, its end is unknown, unless the rank waits for nothing at all:
    then its calls block.
    """
    blocking = not is_wait.any()
    unique, which = distinct(keys[:, known])
    cause = np.full(unique.shape[1], np.iinfo(np.int64).max)
    effect = np.full(unique.shape[1], _NEVER)
    begins = ~is_wait[known] & causes[known]
    np.minimum.at(cause, which[begins], start[known][begins])
    ends = (is_wait | blocking)[known] & waits[known]
    np.maximum.at(effect, which[ends], end[known][ends])
    cause[cause == np.iinfo(np.int64).max] = _NEVER
    return _in_channels(rank, unique, cause, effect)


def _in_channels(rank: int, keys: Ints, cause: Ints, effect: Ints) -> _Operations:
    """Operations whose group, source, destination and seq are in order."""
    is_new = np.ones(keys.shape[1], np.bool_)
    is_new[1:] = (keys[:3, 1:] != keys[:3, :-1]).any(axis=0)
    firsts = np.flatnonzero(is_new)
    return _Operations(
        rank=rank,
        channels=keys[:3, firsts],
        counts=np.diff(firsts, append=keys.shape[1]),
        seq=keys[3].copy(),  # a view would hold all four
        cause=cause,
        effect=effect,
    )


def _are(words: pa.ChunkedArray, word: str) -> Flags:
    # Compared with a word of Python's, pyarrow would look for pandas.
    found: Flags = numbers(pc.is_in(words, word_array([word])))
    return found


def _words(table: pa.Table, column: str) -> pa.ChunkedArray:
    return table[column].cast(pa.string())
