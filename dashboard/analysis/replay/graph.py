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

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dashboard.analysis.communication.matching import Row
from dashboard.analysis.communication.points import Ints, Points
from dashboard.analysis.communication.waiting import Block, alike, block_of, links_of, usual_lengths
from dashboard.analysis.operations import category_of
from dashboard.analysis.replay.own_work import PIECES, own_work
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.replay.strands import Strands, strands_of, stretches_of
from dashboard.analysis.steps import Windows, chains

if TYPE_CHECKING:
    from dashboard.runs import Recording

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
    """The graph of all complete steps, or of those of `steps`; of very many, of some stretches
    (replayed_steps.py). Where devices did the work, it is theirs (device_view.py).
    """
    stretches = stretches_of(replayed_steps(run, steps), run.steps)
    return joined_graphs(graph_of(strands) for strands in strands_of(run, run.ranks, stretches))


def graph_of(strands: Strands) -> Graph:
    """The graph of one stretch of steps, of all ranks."""
    in_chains = chains(strand.windows for strand in strands.values())
    return joined_graphs(_graph_of(windows, strands) for windows in in_chains)


def _issued(spans: Mapping[int, tuple[int, int]], strands: Strands) -> Iterator[Row]:
    """The operations that lie in the spans of their ranks."""
    for rank, (begin, end) in spans.items():
        table = strands[rank].operations
        start = table["start"].to_numpy()
        rows = table.filter(pa.array((start >= begin) & (start <= end))).to_pylist()
        yield from (row for row in rows if (row["wait_end"] or row["call_end"]) <= end)


def _graph_of(windows: Windows, strands: Strands) -> Graph:
    spans = {rank: windows.of(rank) for rank in strands}
    rows = list(_issued(spans, strands))
    blocks = {id(row): block_of(row) for row in rows}
    links, arrivals = links_of(rows, blocks)
    points = Points(spans, windows, blocks.values(), arrivals)
    edges = _Edges()
    # Over all ranks: one that is always early never sees how long a call takes by itself.
    usual = usual_lengths(blocks.values())
    of_rank: dict[int, list[Block]] = {rank: [] for rank in strands}
    for block in blocks.values():
        of_rank[block.row["rank"]].append(block)
    for rank, mine in of_rank.items():
        _along(strands[rank].spans, rank, points, mine, usual, edges)
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

    def graph(self, points: Points, chain: Chain) -> Graph:
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
    spans: pa.Table,
    rank: int,
    points: Points,
    blocks: Sequence[Block],
    usual: Mapping[tuple[Any, ...], int],
    edges: _Edges,
) -> None:
    """The edges from each point of a rank to its next, and what they are made of."""
    times, numbers = points.times[rank], points.numbers[rank]
    lengths = np.diff(times)
    held_up = np.zeros(len(lengths), bool)
    least = np.zeros(len(lengths), np.int64)
    for block in blocks:
        if block.is_caused:
            first, last = np.searchsorted(times, (block.begin, block.end))
            held_up[first:last] = True
            least[last - 1] = min(lengths[last - 1], usual.get(alike(block.row), 0))
    weight = np.where(held_up, least, lengths)
    base = len(edges.source)
    edges.source += numbers[:-1].tolist()
    edges.target += numbers[1:].tolist()
    edges.weight += weight.tolist()
    edges.pieces.append(own_work(spans, rank, times, ~held_up, first_edge=base))


def _chain(points: Points, windows: Windows) -> Chain:
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


def joined_graphs(graphs: Iterable[Graph]) -> Graph:
    """One graph of several stretches, which share no edge."""
    parts = list(graphs)
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
        chains=tuple(_moved(chain, at) for part, at, _ in moved for chain in part.chains),
    )


def _shifted(table: pa.Table, by: int) -> pa.Table:
    return table.set_column(0, "edge", pa.array(table["edge"].to_numpy() + by))


def _moved(chain: Chain, by: int) -> Chain:
    return Chain(
        steps=chain.steps,
        begins=tuple(point + by for point in chain.begins),
        ends=tuple(tuple(point + by for point in ends) for ends in chain.ends),
    )
