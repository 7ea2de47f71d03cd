"""Slow links: a pair of ranks, or a group, whose transfers take longer than those of its peers.

A transfer lasts from when both ends, or all members, have asked for it (concepts: skew-free). How
long a rank that was late sat in it is the rank's own time in the graph, so both are made shorter
where a link is priced: the edges between ranks, and the pieces of waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.analysis.communication.matching import met
from dashboard.analysis.rows_by_key import (
    Ints,
    RowsByKey,
    medians_of_other_rows,
    numbered,
    rows_by_key,
    words_numbered,
)
from dashboard.analysis.stragglers.work import (
    COMMUNICATION,
    FEWEST_STEPS,
    MOST_EVIDENCE,
    Bools,
    Evidence,
    Suspect,
    Work,
    changed,
    scatter,
)

_SLOWER: Final = 0.25
"""By which share the median transfer of a link must exceed that of its peers: less is the noise of
shared links."""
_APART: Final = 3.0
"""Standard deviations (robust) of single transfers by which it must do so as well. Where hosts take
up transfers when they get to it, as over gloo, the medians of like links differ by tens of per
cent in every run: then only a link that is slow nearly every time is a slow one."""
_NEEDED_OF_WORK: Final = 0.01
"""Share of a rank's usual work per step that the excess of a link must reach in sum: less is
worth no line, however much slower the link is."""

_Link: TypeAlias = tuple[int, int] | str
"""Sender and receiver, or the group of a collective."""


@dataclass(kw_only=True, frozen=True)
class _Transfers:
    """Messages and collectives as the ranks saw them end, one entry for each. row: of `operations`.
    start, end: ns. alike: equal for those with the same op, dimension and size. link: equal for
    those of the same pair of ranks, or group.
    """

    operations: pa.Table
    row: Ints
    src: Ints
    start: Ints
    end: Ints
    alike: Ints
    link: Ints

    def of(self, chosen: Ints) -> tuple[_Link, list[dict[str, Any]]]:
        """The link of these, and they as rows of `operations`, with `start` and `end` as here."""
        table = self.operations.take(pa.array(self.row[chosen]))
        times = {"start": self.start[chosen], "end": self.end[chosen]}
        for name, values in times.items():
            table = table.set_column(table.column_names.index(name), name, pa.array(values))
        rows = table.to_pylist()
        src = int(self.src[chosen[0]])
        return rows[0]["group"] if src < 0 else (src, rows[0]["rank"]), rows


def slow_links(operations: pa.Table, work: Work) -> Iterator[Suspect]:
    """Compare the transfers of each link with those of the same op, dimension and size;
    `operations`: of the steps of `work`.
    """
    if len(work.steps) < FEWEST_STEPS or not work.ranks:
        return
    least = _NEEDED_OF_WORK * float(work.usual.max())
    ends = _Ends.of(work)
    seen = _seen(operations)
    ns = (seen.end - seen.start).astype(np.float64)
    for links in _by_link(seen):
        if len(links) < 2:
            continue
        own = np.array([[float(np.median(ns[link])), scatter(ns[link])] for link in links])
        others = medians_of_other_rows(own)
        compared = zip(own.tolist(), others.tolist(), strict=True)
        for link, ((measured, noise), (expected, noise_of_others)) in zip(
            links, compared, strict=True
        ):
            excess = measured - expected
            needed = max(_SLOWER * expected, _APART * max(noise, noise_of_others))
            per_step = excess * len(link) / len(work.steps)
            if excess > needed > 0 and per_step > least:
                told = seen.of(link)
                yield _suspect(work, ends, *told, expected, measured, excess / needed)


@dataclass(kw_only=True, frozen=True)
class _Ends:
    """By rank, the graph's transfers to it, and when each ends. places: of the ranks in `Work`."""

    time: Ints
    by_place: RowsByKey
    places: Mapping[int, int]

    @classmethod
    def of(cls, work: Work) -> _Ends:
        edges = work.graph.transfers
        place = np.searchsorted(work.ranks, edges["rank"].to_numpy())
        return cls(
            time=work.graph.time[work.graph.target[edges["edge"].to_numpy()]],
            by_place=rows_by_key(place, len(work.ranks)),
            places={rank: number for number, rank in enumerate(work.ranks)},
        )


def _seen(operations: pa.Table) -> _Transfers:
    """Of each message what its receiver saw, of each collective what each of its members did."""
    found = met(operations)
    start, call_end = (operations[name].to_numpy() for name in ("start", "call_end"))
    waited = pc.fill_null(operations["wait_end"], 0).to_numpy()
    rank = operations["rank"].to_numpy().astype(np.int64)
    last = np.full(int(found.collective.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, found.collective, start[found.members])
    row = np.concatenate([found.receives, found.members])
    begin = np.concatenate(
        [np.maximum(start[found.sends], start[found.receives]), last[found.collective]]
    )
    src = np.concatenate([rank[found.sends], np.full(len(found.members), -1)])
    end = np.where(waited != 0, waited, call_end)[row]
    ended = end >= begin
    row, src = row[ended], src[ended]
    words = (words_numbered(operations[name])[1][row] for name in ("op", "dim"))
    size = pc.fill_null(operations["bytes"], -1).to_numpy()[row]
    group = words_numbered(operations["group"])[1][row]
    _, alike = numbered(*words, size)
    of_message = src >= 0
    _, link = numbered(src, np.where(of_message, rank[row], group))
    return _Transfers(
        operations=operations,
        row=row,
        src=src,
        start=begin[ended],
        end=end[ended],
        alike=alike,
        link=link,
    )


def _by_link(seen: _Transfers) -> list[list[Ints]]:
    """What is alike, in order of the first of it → link, likewise → its transfers."""
    first, of = numbered(seen.alike, seen.link)
    transfers = rows_by_key(of, len(first))
    found: dict[int, list[Ints]] = {}
    for number in np.argsort(first).tolist():
        found.setdefault(int(seen.alike[first[number]]), []).append(transfers[number])
    return list(found.values())


def _suspect(
    work: Work,
    ends: _Ends,
    link: _Link,
    transfers: Sequence[dict[str, Any]],
    expected: float,
    measured: float,
    clearness: float,
) -> Suspect:
    graph, factor = work.graph, expected / measured
    by_rank: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for transfer in transfers:
        by_rank[transfer["rank"]].append((transfer["start"], transfer["end"]))
    starts = graph.pieces["start"].to_numpy()
    on_link, sat = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for member, spans in by_rank.items():
        place = ends.places[member]
        edges, pieces = ends.by_place[place], work.of(place, COMMUNICATION)
        on_link.append(edges[_lies_in(ends.time[edges], spans)])
        sat.append(pieces[_lies_in(starts[pieces] + work.ns[pieces], spans)])
    edges, pieces = np.concatenate(on_link), np.concatenate(sat)
    src, rank = link if isinstance(link, tuple) else (None, None)
    return Suspect(
        cause="slow link",
        rank=rank,
        src=src,
        group=link if isinstance(link, str) else None,
        steps=tuple(sorted({t["step"] for t in transfers})),
        slowdown=1 / factor - 1 if factor > 0 else None,
        clearness=clearness,
        pieces=changed(pieces, work.ns[pieces] * factor),
        transfers=changed(edges, graph.transfers["duration"].to_numpy()[edges] * factor),
        evidence=_evidence(transfers, expected),
    )


def _lies_in(instants: Ints, spans: Sequence[tuple[int, int]]) -> Bools:
    """Which of the instants lie in one of the spans, its end included."""
    starts, ends = (np.array(times, np.int64) for times in zip(*sorted(spans), strict=True))
    at = np.searchsorted(starts, instants, side="left") - 1
    found: Bools = (at >= 0) & (instants <= ends[np.maximum(at, 0)])
    return found


def _evidence(transfers: Sequence[dict[str, Any]], expected: float) -> tuple[Evidence, ...]:
    """The longest ones."""
    longest = sorted(transfers, key=lambda t: (t["start"] - t["end"], t["start"]))[:MOST_EVIDENCE]
    return tuple(
        Evidence(
            **{name: t[name] for name in ("rank", "step", "stage", "microbatch", "start")},
            name=t["op"],
            duration=t["end"] - t["start"],
            expected=round(expected),
        )
        for t in longest
    )
