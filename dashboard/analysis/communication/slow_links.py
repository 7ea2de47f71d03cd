"""Slow links: the pair of ranks, or the group, that is slower than its peers at the same work.

A *link* is what one bandwidth describes: a pair source -> destination for messages, a process group
for collectives. Its *peers* are the links of the same mesh dimension with the same operation, over
equally many ranks, of the same size. Times are skew-free, of operations whose end somebody
waited for, so that neither a late rank nor a busy one makes a link look slow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dashboard.analysis.communication.bandwidth import P2P, measure_bandwidth
from dashboard.analysis.communication.transfers import telling_transfers
from dashboard.analysis.results import Result

if TYPE_CHECKING:
    from collections.abc import Collection

    from dashboard.runs import Recording

LEAST_LINKS: Final = 3
"""Of two links that differ, none is the odd one."""

LEAST_COUNT: Final = 10
"""Operations of one link and size: with fewer, one disturbed moment may be most of them."""

LEAST_RATIO: Final = 1.5
"""Median time over that of the peers. On hosts that are busy, links that are alike differ by some
10 % anyway; a link on a slower path (another switch, a cable that retries) by factors."""

LEAST_Z: Final = 3.5
"""Robust z-score from which on a value counts as an outlier (Iglewicz and Hoaglin, How to Detect
and Handle Outliers, 1993)."""

LEAST_SHARE: Final = 0.001
"""Of the step time that the excess must come to: below it, the link is slow and nobody minds."""

NOISE_SHARE: Final = 0.05
"""Peers that agree better than this are taken to differ by this much: with few peers the deviation
can come out as 0, and any difference would be infinitely significant."""

_SIGMA_PER_MAD: Final = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""
_ERROR_OF_MEDIAN: Final = 1.2533
"""Standard error of a median over that of a mean, of a normal distribution: sqrt(pi / 2)."""

_Floats: TypeAlias = npt.NDArray[np.float64]
_Link: TypeAlias = tuple[str, int | None, int | None]
_Class: TypeAlias = tuple[str, str, int, int]


@dataclass(kw_only=True, frozen=True, slots=True)
class SlowLink(Result):
    """One link, slower than its peers.

    link: `2 -> 3` or the group's name; bytes: the size that costs most, of which are ratio (median
    over the median of all links alike), z (robust), count, median_ns, usual_ns and peers (how many
    others). ns_per_step: what all operations of the link take longer than usual, over all sizes at
    which it is slow; the step time gained is at most that, since others may hide it.
    """

    link: str
    group: str
    dim: str
    op: str
    bytes: int
    count: int
    peers: int
    median_ns: float
    usual_ns: float
    ratio: float
    z: float
    ns_per_step: float

    def __str__(self) -> str:
        return (
            f"{self.dim} {self.op} {self.link}: {self.median_ns / 1e3:,.4g} µs for "
            f"{self.bytes:,} B, {self.ratio:.1f} × the {self.usual_ns / 1e3:,.4g} µs of its "
            f"{self.peers} peers (z {self.z:.1f}, {self.count:,} operations); "
            f"up to {self.ns_per_step / 1e6:,.3g} ms per step"
        )


def slow_links(run: Recording, steps: Collection[int] | None = None) -> tuple[SlowLink, ...]:
    """The slow links of a run (or of those of `steps`), the one that costs most first."""
    operations = run.answer(measure_bandwidth, steps).operations
    windows = run.events(steps=run.steps if steps is None else steps, kinds=("step",))
    lengths = windows["duration"].to_numpy()
    step_ns = float(np.median(lengths)) if len(lengths) else 0.0
    return find_slow_links(operations, step_ns)


def find_slow_links(operations: pa.Table, step_ns: float = 0.0) -> tuple[SlowLink, ...]:
    """The slow links among the rows of `Bandwidth.operations`, the one that costs most first.

    `step_ns`, the length of a step, says what is too little to mind.

    Before (p2p of 16 kB, medians)     After
    0 -> 1  100 µs                     1 -> 2: ratio 3.0, 2 peers
    1 -> 2  300 µs
    2 -> 3  100 µs
    """
    steps = max(len(set(operations["step"].to_pylist())), 1)
    all_counts = _counts(operations)
    slow: dict[tuple[str, str, _Link], list[SlowLink]] = defaultdict(list)
    for key, links in _by_class(telling_transfers(operations)).items():
        for found in _outliers(key, links, all_counts, steps):
            slow[found[1].dim, found[1].op, found[0]].append(found[1])
    merged = [_merged(found) for found in slow.values()]
    worth = [link for link in merged if link.ns_per_step >= LEAST_SHARE * step_ns]
    return tuple(sorted(worth, key=lambda link: -link.ns_per_step))


_KEYS: Final = ("dim", "op", "n", "bytes", "group", "src", "dst")


def _counts(operations: pa.Table) -> Mapping[tuple[_Class, _Link], int]:
    grouped = operations.group_by(list(_KEYS)).aggregate([("transfer_ns", "count")])
    return {_key(row): row["transfer_ns_count"] for row in grouped.to_pylist()}


def _by_class(operations: pa.Table) -> dict[_Class, dict[_Link, _Floats]]:
    """The times of each link that has enough of them, by dimension, op, ranks and size."""
    times: dict[_Class, dict[_Link, _Floats]] = defaultdict(dict)
    grouped = operations.group_by(list(_KEYS), use_threads=False)
    grouped = grouped.aggregate([("transfer_ns", "list")])
    lists = grouped["transfer_ns_list"]
    for place, row in enumerate(grouped.select(_KEYS).to_pylist()):
        found = lists[place].values.to_numpy().astype(np.float64)
        if len(found) >= LEAST_COUNT:
            key, link = _key(row)
            times[key][link] = found
    return times


def _key(row: Mapping[str, Any]) -> tuple[_Class, _Link]:
    return (row["dim"], row["op"], row["n"], row["bytes"]), (row["group"], row["src"], row["dst"])


def _outliers(
    key: _Class,
    links: Mapping[_Link, _Floats],
    all_counts: Mapping[tuple[_Class, _Link], int],
    steps: int,
) -> list[tuple[_Link, SlowLink]]:
    if len(links) < LEAST_LINKS:
        return []
    dim, op, _, size = key
    medians = {link: float(np.median(times)) for link, times in links.items()}
    usual = float(np.median(list(medians.values())))
    between = _SIGMA_PER_MAD * float(np.median([abs(m - usual) for m in medians.values()]))
    found = []
    for link, times in links.items():
        own = medians[link]
        within = _SIGMA_PER_MAD * float(np.median(np.abs(times - own)))
        own_error = _ERROR_OF_MEDIAN * within / len(times) ** 0.5
        z = (own - usual) / max(between, own_error, NOISE_SHARE * usual)
        if own < LEAST_RATIO * usual or z < LEAST_Z:
            continue
        group, src, dst = link
        slow = SlowLink(
            link=f"{src} → {dst}" if op == P2P else group,
            group=group,
            dim=dim,
            op=op,
            bytes=size,
            count=len(times),
            peers=len(links) - 1,
            median_ns=own,
            usual_ns=usual,
            ratio=own / usual,
            z=z,
            ns_per_step=(own - usual) * all_counts[key, link] / steps,
        )
        found.append((link, slow))
    return found


def _merged(found: list[SlowLink]) -> SlowLink:
    """All sizes at which a link is slow as one, told of the size that costs most."""
    most = max(found, key=lambda slow: slow.ns_per_step)
    return replace(most, ns_per_step=sum(slow.ns_per_step for slow in found))
