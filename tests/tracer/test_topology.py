"""Names of groups, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from tracer.run_files import SchedulePlan
from tracer.topology import Topology, compress


@pytest.mark.parametrize(
    ("ranks", "name"),
    [
        ([3], "3"),
        ([0, 1], "0-1"),
        ([0, 1, 2, 3], "0-3"),
        ([0, 2], "0,2"),
        ([0, 2, 4, 6], "0-6:2"),
        ([1, 9, 17], "1-17:8"),
        ([0, 1, 5], "0,1,5"),
    ],
)
def test_ranks_are_compressed(ranks: list[int], name: str) -> None:
    assert compress(ranks) == name


def _mesh(ranks: Sequence[object], names: tuple[str, ...] | None) -> SimpleNamespace:
    """The part of a `DeviceMesh` that is read: its ranks and the names of its dimensions."""
    return SimpleNamespace(mesh=torch.tensor(ranks), mesh_dim_names=names)


@pytest.mark.parametrize(
    ("ranks", "description", "name"),
    [
        ([1, 0], "mesh_tp", "tp:0-1"),
        ([0, 2], "mesh_pp", "pp:0,2"),
        ([0, 1, 2, 3], "default_pg", "world:0-3"),
        ([0, 1, 2, 3], "mesh_default", "world:0-3"),
        ([0, 3], "undefined", "group:0,3"),
        ([0, 3], "mesh_0", "group:0,3"),
    ],
)
def test_a_group_is_named_by_its_description(ranks: list[int], description: str, name: str) -> None:
    assert Topology(rank=0, world_size=4).group(ranks, description).name == name


def test_a_mesh_dimension_over_all_ranks_names_the_default_group() -> None:
    topology = Topology(rank=2, world_size=4)
    topology.note_mesh(_mesh([0, 1, 2, 3], ("tp",)))

    assert topology.group([0, 1, 2, 3], "default_pg").name == "tp:0-3"


def test_a_mesh_names_groups_that_were_made_by_hand() -> None:
    topology = Topology(rank=5, world_size=8)
    topology.note_mesh(_mesh([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], ("pp", "dp", "tp")))

    assert topology.group([4, 5], "undefined").dim == "tp"
    assert topology.group([5, 7], "undefined").dim == "dp"
    assert topology.group([1, 5], "undefined").dim == "pp"
    assert topology.group([0, 1], "undefined").dim == "group"


def test_the_group_of_a_pipeline_without_a_mesh_is_pp() -> None:
    topology = Topology(rank=0, world_size=2)
    topology.note_stage(0, [0, 1])

    assert topology.group([0, 1], "default_pg").name == "pp:0-1"
    assert topology.stages == {0}


def test_the_run_s_mesh_is_the_largest_with_names() -> None:
    topology = Topology(rank=2, world_size=4)
    topology.note_mesh(_mesh([0, 2], ("pp",)))
    topology.note_mesh(_mesh([0, 1, 2, 3], None))
    topology.note_mesh(_mesh([[0, 1], [2, 3]], ("pp", "tp")))
    topology.note_mesh(_mesh([2, 3], ("tp",)))

    assert topology.mesh is not None
    assert topology.mesh.names == ("pp", "tp")
    assert topology.mesh.shape == (2, 2)
    assert topology.mesh.coordinates == {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (1, 1)}
    assert topology.coordinates == {"pp": 1, "tp": 0}


def test_without_a_mesh_the_groups_tell_the_coordinates() -> None:
    topology = Topology(rank=2, world_size=4)
    topology.group([0, 2], "mesh_pp")
    topology.group([2, 3], "mesh_tp")
    topology.group([0, 1, 2, 3], "default_pg")

    assert topology.coordinates == {"pp": 1, "tp": 0}


def test_messages_are_numbered_per_direction() -> None:
    topology = Topology(rank=0, world_size=4)
    one = topology.group([0, 1], "mesh_tp")

    assert [one.next_message(0, 1), one.next_message(1, 0), one.next_message(0, 1)] == [0, 0, 1]
    assert topology.group([1, 0], "mesh_tp") is one


def test_the_version_grows_with_what_is_new_and_only_then() -> None:
    topology = Topology(rank=0, world_size=2)
    plan = SchedulePlan(
        name="S", stages=2, microbatches=1, virtual_stages=1, pipeline_size=2, plan={}
    )
    seen = [topology.version]
    for _ in range(2):
        topology.group([0, 1], "mesh_tp")
        topology.note_stage(0, [0, 1])
        topology.note_mesh(_mesh([0, 1], ("tp",)))
        topology.note_schedule(plan)
        seen.append(topology.version)

    assert seen == [0, 4, 4]


def test_a_framework_without_meshes_names_its_groups() -> None:
    topology = Topology(rank=2, world_size=4)
    topology.note_group("pp", [2, 0])
    topology.note_group("dp", [2, 3])
    topology.note_group("ep", [2, 3])
    topology.note_group("tp", [2])

    assert topology.group([0, 2], "undefined").name == "pp:0,2"
    assert topology.group([2, 3], "undefined").name == "dp:2-3"
    assert topology.group([2], "undefined").name == "group:2"


def test_a_flat_mesh_of_all_ranks_gives_way_to_the_one_laid_out_over_it() -> None:
    topology = Topology(rank=1, world_size=2)
    topology.note_mesh(_mesh([0, 1], ("world",)))
    topology.note_mesh(_mesh([[[0]], [[1]]], ("pp", "dp", "tp")))
    topology.note_mesh(_mesh([[0], [1]], ("x", "y")))

    assert topology.coordinates == {"pp": 1, "dp": 0, "tp": 0}
    assert topology.group([0, 1], "default_pg").name == "pp:0-1"
