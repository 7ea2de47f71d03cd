"""Slow links: a pair of ranks, or a group, whose transfers take longer than those of its peers.

A transfer lasts from when both ends, or all members, have asked for it (concepts: skew-free). How
long a rank that was late sat in it is the rank's own time in the graph, so both are made shorter
where a link is priced: the edges between ranks, and the pieces of waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from dashboard.analysis.communication.matching import Row, matched
from dashboard.analysis.communication.points import Ints
from dashboard.analysis.operations import operations
from dashboard.analysis.rows_by_key import RowsByKey, medians_of_other_rows, rows_by_key
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

if TYPE_CHECKING:
    from dashboard.runs import Recording

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


@dataclass(kw_only=True, slots=True, frozen=True)
class _Transfer:
    """One message or collective as one rank saw it end, from `start` to `end`, ns."""

    rank: int
    step: int
    stage: int | None
    microbatch: int | None
    op: str
    start: int
    end: int

    @property
    def duration(self) -> int:
        return self.end - self.start


def slow_links(run: Recording, work: Work) -> Iterator[Suspect]:
    """Compare the transfers of each link with those of the same op, dimension and size."""
    if len(work.steps) < FEWEST_STEPS or not work.ranks:
        return
    least = _NEEDED_OF_WORK * float(work.usual.max())
    ends = _Ends.of(work)
    for links in _alike(run, work).values():
        if len(links) < 2:
            continue
        seen = [np.array([t.duration for t in found], np.float64) for found in links.values()]
        own = np.array([[float(np.median(durations)), scatter(durations)] for durations in seen])
        others = medians_of_other_rows(own)
        compared = zip(own.tolist(), others.tolist(), strict=True)
        for (link, found), ((measured, noise), (expected, noise_of_others)) in zip(
            links.items(), compared, strict=True
        ):
            excess = measured - expected
            needed = max(_SLOWER * expected, _APART * max(noise, noise_of_others))
            per_step = excess * len(found) / len(work.steps)
            if excess > needed > 0 and per_step > least:
                yield _suspect(work, ends, link, found, expected, measured, excess / needed)


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


def _alike(
    run: Recording, work: Work
) -> dict[tuple[str, str, int | None], dict[_Link, list[_Transfer]]]:
    """What is transferred alike (op, dimension, bytes) → link → its transfers."""
    found: dict[tuple[str, str, int | None], dict[_Link, list[_Transfer]]] = defaultdict(
        lambda: defaultdict(list)
    )
    rows = operations(run, work.steps).to_pylist()
    messages, collectives = matched(rows)
    for ends in messages.values():
        if len(ends) == 2:
            recv = ends["recv"]
            start = max(ends["send"]["start"], recv["start"])
            alike = found[recv["op"], recv["dim"], recv["bytes"]]
            alike[ends["send"]["rank"], recv["rank"]] += _seen(recv, start)
    for arrived in collectives.values():
        last = max(row["start"] for row in arrived.values())
        for row in arrived.values():
            if len(arrived) > 1:
                found[row["op"], row["dim"], row["bytes"]][row["group"]] += _seen(row, last)
    return found


def _seen(row: Row, start: int) -> Iterator[_Transfer]:
    end = row["wait_end"] or row["call_end"]
    if end >= start:
        yield _Transfer(
            rank=row["rank"],
            step=row["step"],
            stage=row["stage"],
            microbatch=row["microbatch"],
            op=row["op"],
            start=start,
            end=end,
        )


def _suspect(
    work: Work,
    ends: _Ends,
    link: _Link,
    transfers: Sequence[_Transfer],
    expected: float,
    measured: float,
    clearness: float,
) -> Suspect:
    graph, factor = work.graph, expected / measured
    by_rank: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for transfer in transfers:
        by_rank[transfer.rank].append((transfer.start, transfer.end))
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
        steps=tuple(sorted({t.step for t in transfers})),
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


def _evidence(transfers: Sequence[_Transfer], expected: float) -> tuple[Evidence, ...]:
    """The longest ones."""
    longest = sorted(transfers, key=lambda t: (-t.duration, t.start))[:MOST_EVIDENCE]
    return tuple(
        Evidence(
            rank=t.rank,
            step=t.step,
            stage=t.stage,
            microbatch=t.microbatch,
            name=t.op,
            start=t.start,
            duration=t.duration,
            expected=round(expected),
        )
        for t in longest
    )
