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

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.waiting import Links, links_of, usual_lengths
from dashboard.analysis.operations import category_of
from dashboard.analysis.replay.edges import Levels, levels_of
from dashboard.analysis.replay.own_work import PIECES, own_work
from dashboard.analysis.replay.points import Points, points_of
from dashboard.analysis.replay.replayed_steps import replayed_steps
from dashboard.analysis.replay.strands import Strands, strands_of
from dashboard.analysis.rows_by_key import Ints, words_numbered
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


@dataclass(kw_only=True, frozen=True, eq=False)
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

    @cached_property
    def levels(self) -> Levels:
        """Its edges by levels; every prediction goes through them."""
        return levels_of(len(self.time), self.source, self.target)


def dependency_graph(run: Recording, steps: Collection[int] | None = None) -> Graph:
    """The graph of all complete steps, or of those of `steps`; of very many, of some stretches
    (replayed_steps.py). Where devices did the work, it is theirs (device_view.py).
    """
    stretches = replayed_steps(run, steps).stretches
    strands = strands_of(run, run.ranks, stretches)[::-1]
    return joined_graphs(graph_of(strands.pop()) for _ in stretches)  # each is dropped when used


def graph_of(strands: Strands) -> Graph:
    """The graph of one stretch of steps, of all ranks."""
    in_chains = chains(strand.windows for strand in strands.values())
    return joined_graphs(_graph_of(windows, strands) for windows in in_chains)


def _issued(windows: Windows, strands: Strands) -> pa.Table:
    """The operations that lie in the windows of their ranks, rank by rank."""
    found = []
    for rank, strand in strands.items():
        begin, end = windows.of(rank)
        table = strand.operations
        start = table["start"].to_numpy()
        waited = pc.fill_null(table["wait_end"], 0).to_numpy()
        done = np.where(waited != 0, waited, table["call_end"].to_numpy())
        found.append(table.filter(pa.array((start >= begin) & (start <= end) & (done <= end))))
    return pa.concat_tables(found).combine_chunks()


def _graph_of(windows: Windows, strands: Strands) -> Graph:
    ranks = np.array(list(strands), np.int32)
    issued = _issued(windows, strands)
    links = links_of(issued)
    points = _points(windows, ranks, issued, links)
    of_starts, of_ends = points.numbers(_STARTS), points.numbers(_ENDS)
    along, pieces = _along(strands, points, links)
    members, collective = links.met.members, links.met.collective
    arrives = (of_starts[members], points.arrivals[collective], np.zeros(len(members), np.int64))
    by_message = links.arrival < 0
    caused = np.empty(len(links.row), np.int64)
    caused[by_message] = of_starts[links.by[by_message]]
    caused[~by_message] = points.arrivals[links.arrival[~by_message]]
    ends = (caused, of_ends[links.row], links.weight)
    source, target, weight = (
        np.concatenate(parts) for parts in zip(along, arrives, ends, strict=True)
    )
    transfers = _transfers(issued, links, first_edge=len(along[0]) + len(members))
    order = np.argsort(target, kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return Graph(
        time=points.time,
        rank=points.rank,
        source=source[order],
        target=target[order],
        weight=weight[order],
        pieces=_renumbered(pieces, number),
        transfers=_renumbered(transfers, number),
        chains=(_chain(points, windows),),
    )


_BEGIN, _STEP_ENDS, _STARTS, _BEGINS, _ENDS = range(5)
"""The instants of `_points`, as they are asked for."""


def _points(
    windows: Windows, ranks: npt.NDArray[np.int32], issued: pa.Table, links: Links
) -> Points:
    """Where the ranks begin, where they end each step (step by step), and where each operation is
    issued, begins to hold up its rank, and no longer does.
    """
    place = np.arange(len(ranks))
    blocks = links.blocks
    mine = np.searchsorted(ranks, issued["rank"].to_numpy())
    spans = np.array(
        [[of_step[rank] for rank in ranks.tolist()] for of_step in windows.by_step.values()],
        np.int64,
    )
    return points_of(
        ranks,
        [
            (place, spans[0, :, 0]),
            (np.tile(place, len(spans)), spans[:, :, 1].ravel()),
            (mine, blocks.start),
            (mine, blocks.begin),
            (mine, blocks.end),
        ],
        blocks.start[links.last_row],
    )


def _along(
    strands: Strands, points: Points, links: Links
) -> tuple[tuple[Ints, Ints, Ints], pa.Table]:
    """The edges from each point of a rank to its next (source, target, weight), rank by rank, and
    what they are made of.
    """
    time = points.time[points.number[: points.bounds[-1]]]
    lengths = np.diff(time)
    caused = links.is_caused
    first, last = points.of[_BEGINS][caused], points.of[_ENDS][caused]
    opened = np.bincount(first, minlength=len(time)) - np.bincount(last, minlength=len(time))
    held_up = np.cumsum(opened)[:-1] > 0
    # Over all ranks: one that is always early never sees how long a call takes by itself.
    usual = usual_lengths(links)[links.blocks.alike[caused]]
    least = np.zeros(len(lengths), np.int64)
    least[last - 1] = np.minimum(lengths[last - 1], usual)
    weight = np.where(held_up, least, lengths)
    pieces = [PIECES.empty_table()]
    is_edge = np.ones(len(lengths), np.bool_)
    is_edge[points.bounds[1:-1] - 1] = False  # from the last point of a rank to the next rank's
    for place, (rank, strand) in enumerate(strands.items()):
        begin, end = points.bounds[place], points.bounds[place + 1]
        own = ~held_up[begin : end - 1]
        # Before it, each rank has an edge less than it has points.
        pieces.append(own_work(strand.spans, rank, time[begin:end], own, first_edge=begin - place))
    number = points.number[: points.bounds[-1]]
    edges = number[:-1][is_edge], number[1:][is_edge], weight[is_edge]
    return edges, pa.concat_tables(pieces)


def _transfers(issued: pa.Table, links: Links, *, first_edge: int) -> pa.Table:
    """`Graph.transfers`: edge `first_edge` and on."""
    row = pa.array(links.row)
    dims, dim = words_numbered(issued["dim"])
    categories = pa.array([category_of(name or "") for name in dims], pa.string())
    rank = issued["rank"].to_numpy()
    of_message = links.arrival < 0
    return pa.table(
        {
            "edge": np.arange(len(row)) + first_edge,
            "category": categories.take(pa.array(dim[links.row])),
            **{name: issued[name].take(row) for name in ("group", "op", "bytes")},
            "rank": issued["rank"].take(row),
            "src": pa.array(rank[links.by], mask=~of_message),
            "step": issued["step"].take(row),
            "duration": links.weight,
        },
        schema=TRANSFERS,
    ).combine_chunks()


def _chain(points: Points, windows: Windows) -> Chain:
    ends = points.numbers(_STEP_ENDS).reshape(len(windows.by_step), -1)
    return Chain(
        steps=tuple(windows.by_step),
        begins=tuple(points.numbers(_BEGIN).tolist()),
        ends=tuple(tuple(of_step) for of_step in ends.tolist()),
    )


def _renumbered(table: pa.Table, number: Ints) -> pa.Table:
    edge = table["edge"].to_numpy()
    return table.set_column(0, "edge", pa.array(number[edge]))


def joined_graphs(graphs: Iterable[Graph]) -> Graph:
    """One graph of several stretches, which share no edge."""
    parts = list(graphs)
    if len(parts) == 1:
        return parts[0]
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
