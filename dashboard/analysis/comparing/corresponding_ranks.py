"""Which ranks of two runs correspond: by mesh coordinates, else by stage, else by role."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from dashboard.runs import Recording

Role: TypeAlias = tuple[Any, ...]
Weights: TypeAlias = Mapping[int, float]
"""rank → its part of a mean over ranks; together 1."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Matching:
    """The weights of each run's ranks in what is compared.

    Each role counts by the ranks that hold it in the first run, and is shared equally by those
    that hold it in either, so both sides are means over the same mixture of roles.

    same_stages: whether stage n is the same part of the model in both.
    note: how the ranks were matched; empty where it goes without saying.
    """

    a: Weights
    b: Weights
    same_stages: bool
    note: str


def match(a: Recording, b: Recording) -> Matching:
    """Match the ranks of two runs as exactly as they allow."""
    same_stages = _held(a) == _held(b)
    for key, said in _WAYS:
        in_a, in_b = _holders(a, key), _holders(b, key)
        if in_a.keys() == in_b.keys():
            return _weighted(in_a, in_b, same_stages, said)
        if key is _coordinates and _same_mesh(a, b):
            alone = len(in_a.keys() ^ in_b.keys())
            if in_a.keys() & in_b.keys():
                note = f"{alone} ranks are in one run only and left out"
                return _weighted(in_a, in_b, same_stages, note)
    raise AssertionError("unreachable: as a whole, any two runs match")


def _same_mesh(a: Recording, b: Recording) -> bool:
    """Whether equal coordinates mean equal ranks."""
    return (a.meta.mesh, a.meta.world_size) == (b.meta.mesh, b.meta.world_size)


def _coordinates(run: Recording, rank: int) -> Role:
    return tuple(sorted(run.facts[rank].coordinates.items())) or (("rank", rank),)


def _stages(run: Recording, rank: int) -> Role:
    return tuple(run.facts[rank].stages)


def _end(run: Recording, rank: int) -> Role:
    """Whether it holds the first stage, and whether the last one."""
    stages = run.facts[rank].stages
    if not stages:
        return ("no stage",)
    held = _held(run)
    return (min(held) in stages, max(held) in stages)


def _whole(run: Recording, rank: int) -> Role:
    return ()


_WAYS: Final[tuple[tuple[Callable[[Recording, int], Role], str], ...]] = (
    (_coordinates, ""),
    (_stages, "the meshes differ: ranks are matched by pipeline stage"),
    (
        _end,
        "the meshes and stages differ: ranks are matched by role (first stage, last stage, "
        "between them)",
    ),
    (_whole, "the meshes and stages differ: the means over all ranks are compared"),
)
"""From the most exact way to the one that always works."""


def _held(run: Recording) -> set[int]:
    return {stage for rank in run.ranks for stage in run.facts[rank].stages}


def _holders(run: Recording, key: Callable[[Recording, int], Role]) -> dict[Role, list[int]]:
    found: dict[Role, list[int]] = defaultdict(list)
    for rank in run.ranks:
        found[key(run, rank)].append(rank)
    return found


def _weighted(
    in_a: Mapping[Role, list[int]], in_b: Mapping[Role, list[int]], same_stages: bool, note: str
) -> Matching:
    common = [role for role in in_a if role in in_b]
    whole = sum(len(in_a[role]) for role in common)
    share = {role: len(in_a[role]) / whole for role in common}
    a, b = (
        {rank: share[role] / len(held[role]) for role in common for rank in held[role]}
        for held in (in_a, in_b)
    )
    return Matching(a=a, b=b, same_stages=same_stages, note=note)
