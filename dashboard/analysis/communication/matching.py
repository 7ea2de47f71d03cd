"""The records of one operation on several ranks, brought together by group and number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.rows_by_key import Ints, numbered, words_numbered

Row: TypeAlias = dict[str, Any]
MessageKey: TypeAlias = tuple[str, int, int, int]
"""group, source rank, destination rank, number of the message."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Met:
    """Rows of `operations` that belong together, by their numbers.

    sends, receives: the two ends of each message, where both were recorded. members: of
    collectives with two of them or more, those of one side by side; collective: its number,
    from 0, of each member.
    """

    sends: Ints
    receives: Ints
    members: Ints
    collective: Ints


def met(operations: pa.Table) -> Met:
    """What `matched` finds, without an object per row: messages, then collectives, in the order in
    which the first record of each stands in `operations`.
    """
    ops, op = words_numbered(operations["op"])
    groups, group = words_numbered(operations["group"])
    rank = operations["rank"].to_numpy().astype(np.int64)
    seq, has_seq = _known(operations["seq"])
    peer, has_peer = _known(operations["peer"])
    known = _those(groups, lambda name: name is not None)[group] & has_seq
    is_send = _those(ops, lambda name: name == "send")[op]
    is_receive = _those(ops, lambda name: name == "recv")[op]
    messages = np.flatnonzero(known & has_peer & (is_send | is_receive))
    calls = np.flatnonzero(known & ~(is_send | is_receive))
    sends, receives = _ends(messages, is_send[messages], rank, peer, group, seq)
    members, collective = _members(calls, rank, group, seq)
    return Met(sends=sends, receives=receives, members=members, collective=collective)


def matched(
    rows: Iterable[Row],
) -> tuple[dict[MessageKey, dict[str, Row]], dict[tuple[str, int], dict[int, Row]]]:
    """Rows of `operations` → messages and collectives.

    Rows without group or number, and messages without peer, are left out; of several with the same
    key on one rank the last one counts.

    Messages: key → {"send": row, "recv": row}, one of them missing where it was not recorded.
    Collectives: (group, seq) → rank → row.
    """
    messages: dict[MessageKey, dict[str, Row]] = defaultdict(dict)
    collectives: dict[tuple[str, int], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        if row["group"] is None or row["seq"] is None:
            continue
        if row["op"] in ("send", "recv") and row["peer"] is None:
            continue
        if row["op"] == "send":
            messages[row["group"], row["rank"], row["peer"], row["seq"]]["send"] = row
        elif row["op"] == "recv":
            messages[row["group"], row["peer"], row["rank"], row["seq"]]["recv"] = row
        else:
            collectives[row["group"], row["seq"]][row["rank"]] = row
    return messages, collectives


def _ends(
    rows: Ints, is_send: npt.NDArray[np.bool_], rank: Ints, peer: Ints, group: Ints, seq: Ints
) -> tuple[Ints, Ints]:
    """The rows of the two ends of each message."""
    src = np.where(is_send, rank[rows], peer[rows])
    dst = np.where(is_send, peer[rows], rank[rows])
    first, key = numbered(group[rows], src, dst, seq[rows])
    sends, receives = (np.full(len(first), -1, np.int64) for _ in range(2))
    sends[key[is_send]] = rows[is_send]  # of several, the last
    receives[key[~is_send]] = rows[~is_send]
    in_order = np.argsort(first)
    sends, receives = sends[in_order], receives[in_order]
    both = (sends >= 0) & (receives >= 0)
    return sends[both], receives[both]


def _members(rows: Ints, rank: Ints, group: Ints, seq: Ints) -> tuple[Ints, Ints]:
    """The rows of the members of each collective, and which one it is."""
    first_of_all, key = numbered(group[rows], seq[rows])
    first, member = numbered(key, rank[rows])
    last = np.empty(len(first), np.int64)
    last[member] = rows  # of several, the last
    of = key[first]
    several = np.bincount(of, minlength=len(first_of_all))[of] > 1
    first, last, of = first[several], last[several], of[several]
    order = np.lexsort((first, first_of_all[of]))
    begins = np.diff(of[order], prepend=-1) != 0
    return last[order], np.cumsum(begins) - 1


def _known(column: pa.ChunkedArray) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Numbers, -1 in place of nulls, and which are none."""
    values = pc.fill_null(column, -1).to_numpy().astype(np.int64)
    return values, pc.is_valid(column).to_numpy()


def _those(words: list[str | None], what: Callable[[str | None], bool]) -> npt.NDArray[np.bool_]:
    return np.array([what(word) for word in words], np.bool_)
