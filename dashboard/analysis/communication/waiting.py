"""What ranks waited for: the blocks in which an operation held one up, and what ended them.

Everything is found for all operations at once: row i of each array belongs to row i of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.matching import Met, met
from dashboard.analysis.rows_by_key import Ints, medians, numbered, words_numbered

Bools = npt.NDArray[np.bool_]


@dataclass(kw_only=True, frozen=True)
class Blocks:
    """Operations while they could hold up their ranks: row i from `begin[i]` to `end[i]`, ns, which
    is its wait, or its call where nobody waits for it later.

    start: when it was issued, ns. alike: equal for those that should take equally long (operation,
    group and size).
    """

    start: Ints
    begin: Ints
    end: Ints
    alike: Ints


@dataclass(kw_only=True, frozen=True)
class Links:
    """The end of the block of `row` comes no earlier than `cause` (ns) plus `weight`.

    by: the row of the message's other end, whose start is the cause; -1 for the last arrival at a
    collective, whose number in `met` is `arrival` (-1 for messages).
    met: which rows belong together. last_row: of each collective the member that came last, of
    several the one of the lowest rank.
    """

    row: Ints
    cause: Ints
    by: Ints
    arrival: Ints
    weight: Ints
    met: Met
    last_row: Ints
    blocks: Blocks

    @cached_property
    def is_caused(self) -> Bools:
        """Of each block, whether what ended it came while it waited."""
        found = np.zeros(len(self.blocks.begin), np.bool_)
        found[self.row[self.blocks.begin[self.row] < self.cause]] = True
        return found


def blocks_of(operations: pa.Table) -> Blocks:
    """The blocks of all rows of `operations`."""
    start = operations["start"].to_numpy()
    waited = pc.is_valid(operations["wait_start"]).to_numpy()
    wait_start, wait_end = (
        pc.fill_null(operations[name], 0).to_numpy() for name in ("wait_start", "wait_end")
    )
    begin = np.where(waited, wait_start, start)
    _, op = words_numbered(operations["op"])
    _, group = words_numbered(operations["group"])
    size = pc.fill_null(operations["bytes"], -1).to_numpy()
    _, alike = numbered(op, group, size)
    return Blocks(
        start=start,
        begin=begin,
        end=np.where(waited, np.maximum(wait_end, begin), operations["call_end"].to_numpy()),
        alike=alike,
    )


def links_of(operations: pa.Table) -> Links:
    """What the ends of blocks wait for: messages, then collectives."""
    blocks, found = blocks_of(operations), met(operations)
    of_messages = _of_messages(blocks, found)
    last, last_row = _last_arrivals(operations, blocks, found)
    many = len(found.members)
    row, cause, by, arrival = (
        np.concatenate(both)
        for both in zip(
            of_messages,
            (found.members, last[found.collective], np.full(many, -1), found.collective),
            strict=True,
        )
    )
    counts = cause < blocks.end[row]
    row, cause, by, arrival = row[counts], cause[counts], by[counts], arrival[counts]
    return Links(
        row=row,
        cause=cause,
        by=by,
        arrival=arrival,
        weight=_bound_transfers(blocks, row, cause),
        met=found,
        last_row=last_row,
        blocks=blocks,
    )


def usual_lengths(links: Links) -> Ints:
    """By `Blocks.alike`, how long a wait takes where there is nothing to wait for, ns; 0 where
    nothing tells.
    """
    blocks = links.blocks
    free = ~links.is_caused
    found = np.zeros(int(blocks.alike.max(initial=-1)) + 1, np.int64)
    lengths = blocks.end[free] - blocks.begin[free]
    found[blocks.alike[free]] = medians(blocks.alike[free], lengths).astype(np.int64)
    return found


def _of_messages(blocks: Blocks, found: Met) -> tuple[Ints, Ints, Ints, Ints]:
    """row, cause, by and arrival: of each message, what its receive waits for; then what its send
    does, if it was seen to wait for the receive.
    """
    send, receive = found.sends, found.receives
    asked = blocks.start[receive]
    waits = (blocks.begin[send] < asked) & (asked < blocks.end[send])
    counts = np.stack([np.ones(len(send), np.bool_), waits], axis=1).ravel()
    row = np.stack([receive, send], axis=1).ravel()[counts]
    by = np.stack([send, receive], axis=1).ravel()[counts]
    return row, blocks.start[by], by, np.full(len(row), -1, np.int64)


def _last_arrivals(operations: pa.Table, blocks: Blocks, found: Met) -> tuple[Ints, Ints]:
    """Of each collective, when its last member came (ns), and which row that is."""
    start = blocks.start[found.members]
    rank = operations["rank"].to_numpy()[found.members]
    order = np.lexsort((-rank, start, found.collective))
    of = found.collective[order]
    last = order[np.flatnonzero(np.diff(of, append=-1))]
    return start[last], found.members[last]


def _bound_transfers(blocks: Blocks, row: Ints, cause: Ints) -> Ints:
    """How long each transfer took. A rank that came late to a wait cannot tell it, only a bound:
    there it is taken to be like those of the same operation, group and size that were waited for.
    """
    weight = blocks.end[row] - cause
    alike, waited = blocks.alike[row], blocks.begin[row] < cause
    usual = np.full(int(blocks.alike.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(usual, alike[~waited], weight[~waited])
    usual[alike[waited]] = medians(alike[waited], weight[waited]).astype(np.int64)
    return np.where(waited, weight, np.minimum(weight, usual[alike]))
