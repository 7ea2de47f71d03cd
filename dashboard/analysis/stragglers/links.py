"""Slow links: a pair of ranks, or a group, whose transfers take longer than those of its peers.

A transfer lasts from when both ends, or all members, have asked for it (concepts: skew-free). How
long a rank that was late sat in it is the rank's own time in the graph, so both are made shorter
where a link is priced: the edges between ranks, and the pieces of waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from dashboard.analysis.communication.matching import Row, matched
from dashboard.analysis.communication.points import Ints
from dashboard.analysis.operations import operations
from dashboard.analysis.stragglers.work import (
    COMMUNICATION,
    FEWEST_STEPS,
    MOST_EVIDENCE,
    Bools,
    Evidence,
    Suspect,
    Work,
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
    usual = [work.usual(rank) for rank in work.ranks]
    if len(work.steps) < FEWEST_STEPS or not usual:
        return
    least = _NEEDED_OF_WORK * max(usual)
    for links in _alike(run, work).values():
        seen = {k: np.array([t.duration for t in found], np.float64) for k, found in links.items()}
        medians = {link: float(np.median(durations)) for link, durations in seen.items()}
        scatters = {link: scatter(durations) for link, durations in seen.items()}
        for link, found in links.items():
            others = [other for other in links if other != link]
            if not others:
                continue
            expected = median(medians[other] for other in others)
            noise = max(scatters[link], median(scatters[other] for other in others))
            excess = medians[link] - expected
            needed = max(_SLOWER * expected, _APART * noise)
            per_step = excess * len(found) / len(work.steps)
            if excess > needed > 0 and per_step > least:
                yield _suspect(work, link, found, expected, medians[link], excess / needed)


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
    link: _Link,
    transfers: Sequence[_Transfer],
    expected: float,
    measured: float,
    clearness: float,
) -> Suspect:
    graph, factor = work.graph, expected / measured
    edges = graph.transfers
    end = graph.time[graph.target[edges["edge"].to_numpy()]]
    on_link = _lies_in(edges["rank"].to_numpy(), end, transfers)
    duration = edges["duration"].to_numpy()
    sat = work.role == COMMUNICATION
    sat &= _lies_in(work.rank, graph.pieces["start"].to_numpy() + work.ns, transfers)
    src, rank = link if isinstance(link, tuple) else (None, None)
    return Suspect(
        cause="slow link",
        rank=rank,
        src=src,
        group=link if isinstance(link, str) else None,
        steps=tuple(sorted({t.step for t in transfers})),
        slowdown=1 / factor - 1 if factor > 0 else None,
        clearness=clearness,
        pieces=np.where(sat, np.rint(work.ns * factor), work.ns).astype(np.int64),
        transfers=np.where(on_link, np.rint(duration * factor), duration).astype(np.int64),
        evidence=_evidence(transfers, expected),
    )


def _lies_in(rank: Ints, end: Ints, transfers: Sequence[_Transfer]) -> Bools:
    """Which of the instants `end` of `rank` lie in one of the transfers, its end included."""
    found = np.zeros(len(end), np.bool_)
    for r in {t.rank for t in transfers}:
        mine = sorted((t.start, t.end) for t in transfers if t.rank == r)
        starts, ends = (np.array(times, np.int64) for times in zip(*mine, strict=True))
        at = np.searchsorted(starts, end, side="left") - 1
        found |= (rank == r) & (at >= 0) & (end <= ends[np.maximum(at, 0)])
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
