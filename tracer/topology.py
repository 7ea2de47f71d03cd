"""Where this rank stands: its process groups and their mesh dimensions, its stages, its schedule.

A group's stable name is `<dimension>:<global ranks>`, ranks sorted and runs of them compressed:
`tp:0-1`, `pp:0,2`, `dp:0-14:2`. Groups made by a `DeviceMesh` say their dimension themselves;
a mesh dimension that spans all ranks has no group of its own, so that the default group goes by
that dimension's name; the group of a pipeline stage that no mesh has named is `pp`; else the
default group is `world`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tracer.run_files import GroupFacts, Mesh, SchedulePlan

_MESH_PREFIX: Final = "mesh_"
"""`DeviceMesh` describes each group that it makes as mesh_<dimension>, or mesh_<number> where its
dimensions have no names, or mesh_default (device_mesh.py of torch)."""


def compress(ranks: Sequence[int]) -> str:
    """`[0, 1, 2, 3]` → `0-3`, `[0, 2, 4]` → `0-4:2`, `[0, 2]` → `0,2`, `[0, 1, 5]` → `0,1,5`."""
    if len(ranks) == 1:
        return str(ranks[0])
    strides = {after - before for before, after in pairwise(ranks)}
    if strides == {1}:
        return f"{ranks[0]}-{ranks[-1]}"
    if len(strides) == 1 and len(ranks) > 2:
        return f"{ranks[0]}-{ranks[-1]}:{strides.pop()}"
    return ",".join(str(rank) for rank in ranks)


@dataclass(slots=True)
class Group:
    """One process group as the hooks need it; `name` is interned under `index`."""

    name: str
    dim: str
    ranks: tuple[int, ...]
    index: int = -1
    calls: int = 0
    """Collectives issued so far, which is the number of the next one."""
    parts: int = 0
    """Collectives beyond these that are parts of one of them."""
    sent: int = 0
    """Messages of this rank so far, sent and received."""
    messages: dict[tuple[int, int], int] = field(default_factory=dict)
    """Messages so far, by (source, destination)."""

    def next_message(self, source: int, destination: int) -> int:
        """Number of this message from `source` to `destination`."""
        number = self.messages.get((source, destination), 0)
        self.messages[source, destination] = number + 1
        return number


class Topology:
    """What this rank has learnt so far; `version` grows with every addition."""

    def __init__(self, *, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self.version = 0
        self.on_growth: list[Callable[[], None]] = []
        """Called after every addition, for what has been made of what was known before."""
        self.groups: dict[str, Group] = {}
        self.stages: set[int] = set()
        self.mesh: Mesh | None = None
        self.schedule: SchedulePlan | None = None
        self._pipeline_groups: set[tuple[int, ...]] = set()
        self._mesh_groups: dict[tuple[int, ...], str] = {}

    def group(self, ranks: Sequence[int], description: str) -> Group:
        """The group of these global ranks; `description` is the process group's own."""
        members = tuple(sorted(ranks))
        dim = self._dimension(members, description)
        name = f"{dim}:{compress(members)}"
        known = self.groups.get(name)
        if known is None:
            known = self.groups[name] = Group(name, dim, members)
            self._grow()
        return known

    def note_stage(self, stage: int, pipeline_ranks: Sequence[int]) -> None:
        """This rank runs `stage` of the pipeline over `pipeline_ranks`."""
        self._pipeline_groups.add(tuple(sorted(pipeline_ranks)))
        if stage not in self.stages:
            self.stages.add(stage)
            self._grow()

    def note_mesh(self, mesh: Any) -> None:
        """Remember a `DeviceMesh` with named dimensions.

        The run's is the one with most ranks, and of these the one with most dimensions: some
        frameworks first make a flat one and lay out theirs over it.
        """
        names = mesh.mesh_dim_names
        if not names:
            return
        self._note_mesh_groups(mesh.mesh, names)
        extent = mesh.mesh.numel(), mesh.mesh.ndim
        if self.mesh and extent <= (len(self.mesh.coordinates), len(self.mesh.names)):
            return
        positions = (mesh.mesh >= 0).nonzero().tolist()
        ranks = mesh.mesh.flatten().tolist()
        self.mesh = Mesh(
            names=tuple(names),
            shape=tuple(mesh.mesh.shape),
            coordinates={r: tuple(p) for r, p in zip(ranks, positions, strict=True)},
        )
        self._grow()

    def note_group(self, dimension: str, ranks: Sequence[int]) -> None:
        """The group of these global ranks goes by `dimension`, whoever made it; first named wins.

        For frameworks that lay out their ranks without a `DeviceMesh`. "world" names nothing: it
        is what a group of all ranks is called that no dimension has named.
        """
        members = tuple(sorted(ranks))
        if len(members) > 1 and dimension != "world":
            self._mesh_groups.setdefault(members, dimension)

    def note_schedule(self, schedule: SchedulePlan) -> None:
        """Remember the pipeline schedule; the last one built is the run's."""
        if schedule != self.schedule:
            self.schedule = schedule
            self._grow()

    @property
    def coordinates(self) -> dict[str, int]:
        """This rank's index in each mesh dimension, from the mesh or else from its groups."""
        if self.mesh is not None and self.rank in self.mesh.coordinates:
            return dict(zip(self.mesh.names, self.mesh.coordinates[self.rank], strict=True))
        return {
            group.dim: group.ranks.index(self.rank)
            for group in list(self.groups.values())
            if group.dim not in ("world", "group") and self.rank in group.ranks
        }

    @property
    def group_facts(self) -> dict[str, GroupFacts]:
        """The groups in the form that `rank-00000.json` holds."""
        return {
            name: GroupFacts(dim=group.dim, ranks=group.ranks)
            for name, group in list(self.groups.items())
        }

    def _grow(self) -> None:
        self.version += 1
        for forget in self.on_growth:
            forget()

    def _note_mesh_groups(self, ranks: Any, names: Sequence[str]) -> None:
        """For each dimension the ranks that differ from this one in that dimension alone."""
        mine = (ranks == self.rank).nonzero().tolist()
        for position in mine[:1]:
            for dimension, name in enumerate(names):
                along = tuple(slice(None) if d == dimension else i for d, i in enumerate(position))
                self.note_group(name, ranks[along].tolist())

    def _dimension(self, members: tuple[int, ...], description: str) -> str:
        named = description.removeprefix(_MESH_PREFIX)
        if named != description and named != "default" and not named.isdigit():
            return named
        if members in self._mesh_groups:
            return self._mesh_groups[members]
        if members in self._pipeline_groups:
            return "pp"
        return "world" if len(members) == self.world_size else "group"
