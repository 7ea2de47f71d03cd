"""Slow links: a pair of ranks, or a group, whose transfers take longer than those of its peers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

import numpy as np

from dashboard.analysis.graph import Graph
from dashboard.analysis.points import Ints
from dashboard.analysis.straggler_work import (
    CLEAR,
    FEWEST_STEPS,
    MOST_EVIDENCE,
    Evidence,
    Suspect,
    Work,
    scatter,
)

_SLOWER: Final = 0.5
"""By which share the median transfer of a link must exceed that of its peers. Links are shared,
and hosts take them up when they get to it: medians of like links differ by tens of per cent."""
_NEEDED_OF_WORK: Final = 0.01
"""Share of a rank's usual work per step that the excess of a link must reach in sum: less is
worth no line, however much slower the link is."""


def slow_links(work: Work) -> Iterator[Suspect]:
    """Compare the transfers of each link with those of the same op, dimension and size."""
    usual = [work.usual(rank) for rank in work.ranks]
    if len(work.steps) < FEWEST_STEPS or not usual:
        return
    least = _NEEDED_OF_WORK * max(usual)
    duration = work.graph.transfers["duration"].to_numpy()
    for links in _alike(work).values():
        medians = {link: median(duration[rows].tolist()) for link, rows in links.items()}
        for link, rows in links.items():
            others = [found for other, found in medians.items() if other != link]
            if not others:
                continue
            expected = median(others)
            mine = duration[np.array(rows)].astype(np.float64)
            error = scatter(mine) / np.sqrt(len(mine))
            excess = (medians[link] - expected) * len(mine) / len(work.steps)
            needed = max(_SLOWER * expected, CLEAR * float(error))
            if medians[link] - expected > needed and excess > least:
                clearness = (medians[link] - expected) / needed if needed else np.inf
                yield _suspect(work, np.array(rows), expected, medians[link], clearness)


def _alike(work: Work) -> dict[Any, dict[Any, list[int]]]:
    """What is transferred alike → link → rows of `graph.transfers`."""
    steps = set(work.steps)
    found: dict[Any, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(work.graph.transfers.to_pylist()):
        # A send that waits for its receive tells of the receiver and not of the link.
        if row["step"] not in steps or row["op"] == "send":
            continue
        link = row["group"] if row["src"] is None else (row["src"], row["rank"])
        found[row["op"], row["category"], row["bytes"]][link].append(number)
    return found


def _suspect(work: Work, rows: Ints, expected: float, measured: float, clearness: float) -> Suspect:
    graph = work.graph
    duration = graph.transfers["duration"].to_numpy()
    factor = expected / measured
    without = duration.copy()
    without[rows] = np.rint(duration[rows] * factor).astype(np.int64)
    first = graph.transfers.slice(int(rows[0]), 1).to_pylist()[0]
    is_pair = first["src"] is not None
    return Suspect(
        cause="slow link",
        rank=first["rank"] if is_pair else None,
        src=first["src"],
        group=None if is_pair else first["group"],
        steps=tuple(sorted(set(graph.transfers["step"].take(rows).to_pylist()))),
        slowdown=1 / factor - 1 if factor > 0 else None,
        clearness=clearness,
        transfers=without,
        evidence=_evidence(graph, rows, expected),
    )


def _evidence(graph: Graph, rows: Ints, expected: float) -> tuple[Evidence, ...]:
    """The longest transfers; each begins at the point that it waited for."""
    duration = graph.transfers["duration"].to_numpy()[rows]
    longest = rows[np.argsort(-duration, kind="stable")[:MOST_EVIDENCE]]
    return tuple(
        Evidence(
            rank=row["rank"],
            step=row["step"],
            stage=None,
            microbatch=None,
            name=row["op"],
            start=int(graph.time[graph.source[row["edge"]]]),
            duration=row["duration"],
            expected=round(expected),
        )
        for row in graph.transfers.take(longest).to_pylist()
    )
