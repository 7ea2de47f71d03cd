"""The mesh of an imported run, by what its ranks say of their places."""

from __future__ import annotations

from collections.abc import Mapping

from tracer.run_files import Mesh, RankFacts


def mesh_of(facts: Mapping[int, RankFacts], world_size: int) -> Mesh | None:
    """The mesh that the ranks' coordinates make, if all ranks have all of them and it is full."""
    names = tuple(dict.fromkeys(name for known in facts.values() for name in known.coordinates))
    places = {
        rank: tuple(known.coordinates.get(name, -1) for name in names)
        for rank, known in facts.items()
    }
    if not names or len(set(places.values())) < world_size or any(-1 in p for p in places.values()):
        return None
    shape = tuple(max(place[axis] for place in places.values()) + 1 for axis in range(len(names)))
    full = 1
    for length in shape:
        full *= length
    return Mesh(names=names, shape=shape, coordinates=places) if full == world_size else None
