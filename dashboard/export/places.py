"""Where ranks stand in the mesh: their names and their order in viewers."""

from __future__ import annotations

from collections.abc import Iterable

from dashboard.export.selection import Selection
from dashboard.runs import Recording


def in_mesh_order(chosen: Selection) -> list[int]:
    """The ranks by their coordinates, the first dimension of the mesh first."""
    return sorted(chosen.ranks, key=lambda rank: (tuple(_place(chosen.run, rank)), rank))


def name_of(run: Recording, rank: int) -> str:
    """`pp=0 tp=1 · rank 1`; `rank 1` where it has no coordinates."""
    place = " ".join(f"{dim}={index}" for dim, index in run.facts[rank].coordinates.items())
    return f"{place} · rank {rank}" if place else f"rank {rank}"


def _place(run: Recording, rank: int) -> Iterable[int]:
    return run.facts[rank].coordinates.values()
