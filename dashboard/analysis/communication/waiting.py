"""What ranks waited for: the blocks in which an operation held one up, and what ended them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

from dashboard.analysis.communication.matching import Row, matched

CollectiveKey: TypeAlias = tuple[str, int]
"""group, number in it."""


@dataclass(slots=True)
class Block:
    """An operation on one rank while it could be held up: from `begin` to `end`.

    `cause` is what it waited for, ns and rank, if that came while it waited.
    """

    row: Row
    begin: int
    end: int
    is_caused: bool = False


@dataclass(slots=True)
class Link:
    """The end of a block comes no earlier than `cause` on `cause_rank` plus `weight`.

    `cause_rank` is -1 for the last arrival at the collective `arrival`.
    """

    block: Block
    cause: int
    cause_rank: int
    weight: int
    arrival: tuple[str, int] | None = None


def block_of(row: Row) -> Block:
    """The wait for an operation, or its call where nobody waits for it later."""
    if row["wait_start"] is not None:
        return Block(row, row["wait_start"], max(row["wait_end"], row["wait_start"]))
    return Block(row, row["start"], row["call_end"])


def links_of(
    rows: Iterable[Row], blocks: dict[int, Block]
) -> tuple[list[Link], dict[tuple[str, int], list[Row]]]:
    """What the ends of blocks wait for, and the members of each collective."""
    messages, collectives = matched(rows)
    links: list[Link] = []
    for ends in messages.values():
        if len(ends) == 2:
            send, recv = blocks[id(ends["send"])], blocks[id(ends["recv"])]
            links += _link(recv, send.row["start"], send.row["rank"])
            if send.begin < recv.row["start"] < send.end:
                links += _link(send, recv.row["start"], recv.row["rank"])
    arrivals: dict[tuple[str, int], list[Row]] = {}
    for key, arrived in collectives.items():
        members = list(arrived.values())
        if len(members) < 2:
            continue
        arrivals[key] = members
        last = max(row["start"] for row in members)
        for row in members:
            links += _link(blocks[id(row)], last, -1, arrival=key)
    _bound_transfers(links)
    return links, arrivals


def _link(
    block: Block, cause: int, rank: int, *, arrival: tuple[str, int] | None = None
) -> Iterator[Link]:
    if cause < block.end:
        block.is_caused = block.is_caused or block.begin < cause
        yield Link(block, cause, rank, block.end - cause, arrival)


def _bound_transfers(links: Iterable[Link]) -> None:
    """A rank that came late to a wait cannot tell how long the transfer took, only a bound: there
    it is taken to be like those of the same operation, group and size that were waited for.
    """
    seen: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    bounds: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for link in links:
        waited = link.block.begin < link.cause
        (seen if waited else bounds)[alike(link.block.row)].append(link.weight)
    usual = {key: min(lengths) for key, lengths in bounds.items()}
    usual |= {key: int(median(lengths)) for key, lengths in seen.items()}
    for link in links:
        if link.block.begin >= link.cause:
            link.weight = min(link.weight, usual[alike(link.block.row)])


def alike(row: Row) -> tuple[Any, ...]:
    """What operations have in common that should take equally long."""
    return row["op"], row["group"], row["bytes"]


def usual_lengths(blocks: Iterable[Block]) -> dict[tuple[Any, ...], int]:
    """How long a wait takes where there is nothing to wait for."""
    free: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for block in blocks:
        if not block.is_caused:
            free[alike(block.row)].append(block.end - block.begin)
    return {key: int(median(lengths)) for key, lengths in free.items()}
