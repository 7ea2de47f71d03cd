"""What the links of each mesh dimension could carry by the hardware that the ranks run on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow.compute as pc

if TYPE_CHECKING:
    from dashboard.runs import Recording

_SUFFIX: Final = "_peak/bytes_per_s"
NVLINK: Final = "nvlink"
PCIE: Final = "pcie"
NETWORK: Final = "network"


def topology_peaks(run: Recording) -> dict[str, float]:
    """GB/s by mesh dimension: of its groups the slowest, of a group its slowest rank.

    Within a host that is NVLink, or PCIe where a card has none. Between hosts it is the rank's
    part of its host's network times the members that the host has: a ring leaves it as often as
    there are members (rings of NCCL, one per network card). No entry for a dimension of which
    some rank did not tell, or whose groups all have one rank.

    2 hosts of 2 ranks, 50 GB/s of network each, NVLink 450: tp in a host 450; dp of one rank per
    host 25, dp of all four ranks 50.
    """
    speeds = _speeds(run)
    hosts = {rank: facts.boot_id or facts.host for rank, facts in run.facts.items()}
    found: dict[str, list[float | None]] = {}
    for facts in run.facts.values():
        for group in facts.groups.values():
            if len(group.ranks) > 1:
                found.setdefault(group.dim, []).append(_of_group(group.ranks, hosts, speeds))
    return {
        dim: min(known)
        for dim, peaks in found.items()
        if len(known := [peak for peak in peaks if peak]) == len(peaks)
    }


def _speeds(run: Recording) -> dict[int, dict[str, float]]:
    """By rank, GB/s of each kind of link: the counters whose names end in `_peak`, `.peak`."""
    counters = run.counters
    told = counters.filter(pc.match_substring(counters["name"], "peak/bytes_per_s"))
    speeds: dict[int, dict[str, float]] = {}
    for row in told.to_pylist():
        name = row["name"].split(".", 1)
        kind = NETWORK if name[0] == NETWORK else name[-1].removesuffix(_SUFFIX)
        speeds.setdefault(row["rank"], {})[kind] = row["value"] / 1e9
    return speeds


def _of_group(
    ranks: Sequence[int], hosts: Mapping[int, str], speeds: Mapping[int, Mapping[str, float]]
) -> float | None:
    if any(rank not in hosts or rank not in speeds for rank in ranks):
        return None
    members = Counter(hosts[rank] for rank in ranks)
    if len(members) > 1:
        on_host = Counter(hosts.values())
        per_rank = {rank: speeds[rank].get(NETWORK, 0.0) / on_host[hosts[rank]] for rank in ranks}
        return min(per_rank[rank] * members[hosts[rank]] for rank in ranks) or None
    for kind in (NVLINK, PCIE):
        if all(kind in speeds[rank] for rank in ranks):
            return min(speeds[rank][kind] for rank in ranks)
    return None
