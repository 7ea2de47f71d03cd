"""The dependency graph of a run's steps: what each instant of each rank had to wait for.

A *point* is an instant of a rank that others may wait for or that waits for others: an operation
is issued, a wait begins, a wait ends, a step ends. An *edge* says that its target comes no earlier
than its source plus the edge's weight:

* along a rank, from each point to the next, weighing the rank's own work between them; where the
  rank sat in a wait that another one ended, that weighs only what such a call takes anyway;
* from the send of a message to the end of its receive, weighing the transfer; and back from the
  receive to the end of a send that was seen to wait for it;
* from the arrival of each member of a collective to its last arrival, and from there to its end
  on each member, weighing the transfer.

With the weights as recorded, every point lies exactly where it was measured (replay.py); with
other weights it lies where it would have been. Building it takes time O(n log n) in events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dashboard.analysis.matching import Row, matched
from dashboard.analysis.operations import category_of, operations
from dashboard.analysis.own_work import PIECES, own_work
from dashboard.analysis.steps import step_windows

if TYPE_CHECKING:
    from dashboard.runs import Recording

Ints = npt.NDArray[np.int64]

TRANSFERS: Final = pa.schema(
    [
        ("edge", pa.int64()),
        ("category", pa.string()),
        ("group", pa.string()),
        ("op", pa.string()),
        ("bytes", pa.int64()),
        ("rank", pa.int32()),
        ("src", pa.int32()),
        ("step", pa.int32()),
        ("duration", pa.int64()),
    ]
)


@dataclass(kw_only=True, frozen=True)
class Chain:
    """Steps that follow each other without a gap, and the points where each ended, by rank."""

    steps: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[tuple[int, ...], ...]


@dataclass(kw_only=True, frozen=True)
class Graph:
    """Points and edges; `time[i]` and `rank[i]` are those of point i, in an order in which
    every edge leads forwards.

    time: measured, ns on the common clock. rank: -1 for the last arrival at a collective.
    source, target, weight (ns): one edge each, in order of target.
    pieces: what the edges along a rank are made of: edge, and the columns of `own_work`.
    transfers: what the edges between ranks are: edge, category, group, op, bytes, rank (which
        received or took part), src (the sender; null for a collective), step, duration (ns).
    chains: the steps.
    """

    time: Ints
    rank: npt.NDArray[np.int32]
    source: Ints
    target: Ints
    weight: Ints
    pieces: pa.Table
    transfers: pa.Table
    chains: tuple[Chain, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """All steps, in order."""
        return tuple(step for chain in self.chains for step in chain.steps)


def dependency_graph(run: Recording, steps: Collection[int] | None = None) -> Graph:
    """The graph of all complete steps, or of those of `steps`."""
    issued = operations(run).to_pylist()
    parts: list[Graph] = []
    for windows in _chained(run, steps):
        parts.append(_graph_of(run, windows, issued))
    return _joined(parts)


@dataclass(kw_only=True, slots=True)
class _Windows:
    """The step windows of a chain: step → rank → (start, end), ns."""

    by_step: dict[int, dict[int, tuple[int, int]]]

    def of(self, rank: int) -> tuple[int, int]:
        """From the rank's first start to its last end."""
        spans = [ranks[rank] for ranks in self.by_step.values()]
        return spans[0][0], spans[-1][1]


def _chained(run: Recording, steps: Collection[int] | None) -> Iterator[_Windows]:
    """Windows in chains: a step begins a new one where some rank has a gap before it."""
    by_step: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    for row in step_windows(run, steps).to_pylist():
        by_step[row["step"]][row["rank"]] = (row["start"], row["start"] + row["duration"])
    chain: dict[int, dict[int, tuple[int, int]]] = {}
    before: dict[int, tuple[int, int]] = {}
    for step, ranks in sorted(by_step.items()):
        follows = all(before.get(rank, (0, -1))[1] == span[0] for rank, span in ranks.items())
        if chain and not follows:
            yield _Windows(by_step=chain)
            chain = {}
        chain[step] = before = ranks
    if chain:
        yield _Windows(by_step=chain)


@dataclass(slots=True)
class _Block:
    """An operation on one rank while it could be held up: from `begin` to `end`.

    `cause` is what it waited for, ns and rank, if that came while it waited.
    """

    row: Row
    begin: int
    end: int
    is_caused: bool = False


@dataclass(slots=True)
class _Link:
    """The end of a block comes no earlier than `cause` on `cause_rank` plus `weight`.

    `cause_rank` is -1 for the last arrival at the collective `arrival`.
    """

    block: _Block
    cause: int
    cause_rank: int
    weight: int
    arrival: tuple[str, int] | None = None


def _graph_of(run: Recording, windows: _Windows, issued: Sequence[Row]) -> Graph:
    spans = {rank: windows.of(rank) for rank in run.ranks}
    rows = [row for row in issued if _lies_in(row, spans[row["rank"]])]
    blocks = {id(row): _block(row) for row in rows}
    links, arrivals = _links(rows, blocks)
    points = _Points(spans, windows, blocks.values(), arrivals)
    edges = _Edges()
    for rank in run.ranks:
        _along(run, rank, points, [b for b in blocks.values() if b.row["rank"] == rank], edges)
    for key, members in arrivals.items():
        for row in members:
            edges.add(points.of(row["rank"], row["start"]), points.arrival(key), 0)
    for link in links:
        cause = (
            points.arrival(link.arrival)
            if link.arrival is not None
            else points.of(link.cause_rank, link.cause)
        )
        row = link.block.row
        edge = edges.add(cause, points.of(row["rank"], link.block.end), link.weight)
        edges.transfers.append(
            {
                "edge": edge,
                "category": category_of(row["dim"]),
                "group": row["group"],
                "op": row["op"],
                "bytes": row["bytes"],
                "rank": row["rank"],
                "src": None if link.arrival is not None else link.cause_rank,
                "step": row["step"],
                "duration": link.weight,
            }
        )
    return edges.graph(points, _chain(points, windows))


def _lies_in(row: Row, span: tuple[int, int]) -> bool:
    return bool(span[0] <= row["start"] and (row["wait_end"] or row["call_end"]) <= span[1])


def _block(row: Row) -> _Block:
    if row["wait_start"] is not None:
        return _Block(row, row["wait_start"], max(row["wait_end"], row["wait_start"]))
    return _Block(row, row["start"], row["call_end"])


def _links(
    rows: Iterable[Row], blocks: dict[int, _Block]
) -> tuple[list[_Link], dict[tuple[str, int], list[Row]]]:
    """What the ends of blocks wait for, and the members of each collective."""
    messages, collectives = matched(rows)
    links: list[_Link] = []
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
    block: _Block, cause: int, rank: int, *, arrival: tuple[str, int] | None = None
) -> Iterator[_Link]:
    if cause < block.end:
        block.is_caused = block.is_caused or block.begin < cause
        yield _Link(block, cause, rank, block.end - cause, arrival)


def _bound_transfers(links: Iterable[_Link]) -> None:
    """A rank that came late to a wait cannot tell how long the transfer took, only a bound: there
    it is taken to be like those of the same operation, group and size that were waited for.
    """
    seen: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    bounds: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for link in links:
        waited = link.block.begin < link.cause
        (seen if waited else bounds)[_alike(link.block.row)].append(link.weight)
    for link in links:
        if link.block.begin >= link.cause:
            key = _alike(link.block.row)
            usual = median(seen[key]) if key in seen else min(bounds[key])
            link.weight = min(link.weight, int(usual))


def _alike(row: Row) -> tuple[Any, ...]:
    return row["op"], row["group"], row["bytes"]


class _Points:
    """The instants of all ranks, numbered in order of time."""

    def __init__(
        self,
        spans: dict[int, tuple[int, int]],
        windows: _Windows,
        blocks: Iterable[_Block],
        arrivals: dict[tuple[str, int], list[Row]],
    ) -> None:
        found: dict[int, set[int]] = {rank: set(span) for rank, span in spans.items()}
        for ranks in windows.by_step.values():
            for rank, (_, end) in ranks.items():
                found[rank].add(end)
        for block in blocks:
            found[block.row["rank"]].update((block.row["start"], block.begin, block.end))
        self.times = {rank: np.array(sorted(times), np.int64) for rank, times in found.items()}
        self._keys = list(arrivals)
        last = [max(row["start"] for row in members) for members in arrivals.values()]
        time = np.concatenate([*self.times.values(), np.array(last, np.int64)])
        rank = np.concatenate(
            [np.full(len(times), rank, np.int32) for rank, times in self.times.items()]
            + [np.full(len(last), -1, np.int32)]
        )
        # At one instant, an arrival comes after what it collects.
        order = np.lexsort((rank < 0, time))
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        self.time, self.rank = time[order], rank[order]
        self.numbers: dict[int, Ints] = {}
        at = 0
        for r, times in self.times.items():
            self.numbers[r] = number[at : at + len(times)]
            at += len(times)
        self._arrivals = dict(zip(self._keys, number[at:].tolist(), strict=True))

    def of(self, rank: int, time: int) -> int:
        """The number of the point at `time` of `rank`, which must be one."""
        return int(self.numbers[rank][np.searchsorted(self.times[rank], time)])

    def arrival(self, key: tuple[str, int]) -> int:
        """The number of the last arrival at a collective."""
        return int(self._arrivals[key])


class _Edges:
    """Edges as they are found."""

    def __init__(self) -> None:
        self.source: list[int] = []
        self.target: list[int] = []
        self.weight: list[int] = []
        self.pieces: list[pa.Table] = []
        self.transfers: list[dict[str, Any]] = []

    def add(self, source: int, target: int, weight: int) -> int:
        """Add one; its number."""
        self.source.append(source)
        self.target.append(target)
        self.weight.append(weight)
        return len(self.source) - 1

    def graph(self, points: _Points, chain: Chain) -> Graph:
        """All of it, edges in order of target."""
        target = np.array(self.target, np.int64)
        order = np.argsort(target, kind="stable")
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        transfers = pa.Table.from_pylist(self.transfers, schema=TRANSFERS)
        pieces = pa.concat_tables([PIECES.empty_table(), *self.pieces])
        return Graph(
            time=points.time,
            rank=points.rank,
            source=np.array(self.source, np.int64)[order],
            target=target[order],
            weight=np.array(self.weight, np.int64)[order],
            pieces=_renumbered(pieces, number),
            transfers=_renumbered(transfers, number),
            chains=(chain,),
        )


def _along(
    run: Recording, rank: int, points: _Points, blocks: Sequence[_Block], edges: _Edges
) -> None:
    """The edges from each point of a rank to its next, and what they are made of."""
    times, numbers = points.times[rank], points.numbers[rank]
    lengths = np.diff(times)
    held_up = np.zeros(len(lengths), bool)
    least = np.zeros(len(lengths), np.int64)
    usual = _usual_lengths(blocks)
    for block in blocks:
        if block.is_caused:
            first, last = np.searchsorted(times, (block.begin, block.end))
            held_up[first:last] = True
            least[last - 1] = min(lengths[last - 1], usual.get(_alike(block.row), 0))
    weight = np.where(held_up, least, lengths)
    base = len(edges.source)
    edges.source += numbers[:-1].tolist()
    edges.target += numbers[1:].tolist()
    edges.weight += weight.tolist()
    edges.pieces.append(own_work(run, rank, times, ~held_up, first_edge=base))


def _usual_lengths(blocks: Iterable[_Block]) -> dict[tuple[Any, ...], int]:
    """How long a wait takes where there is nothing to wait for."""
    free: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for block in blocks:
        if not block.is_caused:
            free[_alike(block.row)].append(block.end - block.begin)
    return {key: int(median(lengths)) for key, lengths in free.items()}


def _chain(points: _Points, windows: _Windows) -> Chain:
    first = next(iter(windows.by_step.values()))
    return Chain(
        steps=tuple(windows.by_step),
        begins=tuple(points.of(rank, start) for rank, (start, _) in first.items()),
        ends=tuple(
            tuple(points.of(rank, end) for rank, (_, end) in ranks.items())
            for ranks in windows.by_step.values()
        ),
    )


def _renumbered(table: pa.Table, number: Ints) -> pa.Table:
    edge = table["edge"].to_numpy()
    return table.set_column(0, "edge", pa.array(number[edge]))


def _joined(parts: Sequence[Graph]) -> Graph:
    """One graph of several chains, which share no edge."""
    points = np.cumsum([0, *(len(part.time) for part in parts)])
    edges = np.cumsum([0, *(len(part.weight) for part in parts)])
    empty = np.zeros(0, np.int64)
    moved = list(zip(parts, points.tolist(), edges.tolist(), strict=False))
    return Graph(
        time=np.concatenate([empty, *(part.time for part in parts)]),
        rank=np.concatenate([np.zeros(0, np.int32), *(part.rank for part in parts)]),
        source=np.concatenate([empty, *(part.source + at for part, at, _ in moved)]),
        target=np.concatenate([empty, *(part.target + at for part, at, _ in moved)]),
        weight=np.concatenate([empty, *(part.weight for part in parts)]),
        pieces=pa.concat_tables(
            [PIECES.empty_table(), *(_shifted(part.pieces, at) for part, _, at in moved)]
        ),
        transfers=pa.concat_tables(
            [TRANSFERS.empty_table(), *(_shifted(part.transfers, at) for part, _, at in moved)]
        ),
        chains=tuple(_moved(part.chains[0], at) for part, at, _ in moved),
    )


def _shifted(table: pa.Table, by: int) -> pa.Table:
    return table.set_column(0, "edge", pa.array(table["edge"].to_numpy() + by))


def _moved(chain: Chain, by: int) -> Chain:
    return Chain(
        steps=chain.steps,
        begins=tuple(point + by for point in chain.begins),
        ends=tuple(tuple(point + by for point in ends) for ends in chain.ends),
    )
