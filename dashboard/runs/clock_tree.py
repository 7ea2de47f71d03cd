"""The comparisons of clocks between hosts, followed up to the clock that all can be told in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.runs.clock_map import ClockMap, Samples, chained, fit, identity
from dashboard.runs.columns import numbers

Span: TypeAlias = tuple[int, int]
"""First and last raw time (ns) of a host's events."""


def exchanged(
    hosts: Mapping[int, str], spans: Mapping[str, Span], clocks: Mapping[int, pa.Table]
) -> dict[str, ClockMap]:
    """Maps to the clock of the root with most hosts below it; empty without comparisons.

    A parent whose files are missing still ties its children together: its clock is read from
    their comparisons alone.
    """
    parents: dict[str, tuple[str, Samples]] = {}
    for rank, table in sorted(clocks.items()):
        if rank in hosts:
            other, samples = _comparisons(table)
            if len(samples):
                parents[hosts[rank]] = hosts.get(other, f"rank:{other}"), samples
    trees: dict[str, dict[str, ClockMap]] = defaultdict(dict)
    for host in spans:
        lineage = _lineage(host, parents)
        path = identity()
        for below in reversed(lineage[:-1]):
            begin, end = spans.get(below, (0, 0))
            path = chained(fit(parents[below][1], begin, end), path)
        trees[lineage[-1]][host] = path
    best = max(trees.values(), key=len, default={})
    return best if len(best) > 1 else {}


def _lineage(host: str, parents: Mapping[str, tuple[str, Samples]]) -> list[str]:
    """The host, whom it compared its clock with, and so on up to the root."""
    line = [host]
    while line[-1] in parents and parents[line[-1]][0] not in line:
        line.append(parents[line[-1]][0])
    return line


def _comparisons(table: pa.Table) -> tuple[int, Samples]:
    """With which rank most comparisons were made, and these."""
    source = table["source"].cast(pa.string())
    of_ranks = table.filter(pc.match_substring_regex(source, r"^rank:\d{1,9}$"))
    source = of_ranks["source"].cast(pa.string())
    counts = pc.value_counts(source).to_pylist()
    most = max(counts, key=lambda count: int(count["counts"]), default={"values": "rank:-1"})
    mine = of_ranks.filter(pc.equal(source, most["values"]))
    samples = Samples(
        times=numbers(mine["ts"]),
        offsets=numbers(mine["offset"]),
        errors=numbers(mine["error"]),
    )
    return int(str(most["values"]).removeprefix("rank:")), samples
