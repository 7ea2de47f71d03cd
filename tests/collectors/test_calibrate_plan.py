"""What is measured: the groups that a run had, those that share ranks one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from collectors.calibrate.plan import Members, groups_of, rounds, sizes
from collectors.calibrate.sweep import Timing, slowest_members
from tests.support.launching import ROOT
from tests.support.toy import Event, RankFacts, write_run
from tracer.errors import UsageError


def group(name: str, *ranks: int) -> Members:
    return Members(name=name, dim=name.partition(":")[0], ranks=ranks)


def test_groups_of_a_recorded_run() -> None:
    # Two stages of two tensor ranks: tp 0-1 and 2-3, pp 0,2 and 1,3.
    meta, groups = groups_of(ROOT / "sample_traces" / "pp2-tp2-1f1b")
    assert meta.world_size == 4
    assert groups == (
        group("pp:0,2", 0, 2),
        group("pp:1,3", 1, 3),
        group("tp:0-1", 0, 1),
        group("tp:2-3", 2, 3),
    )


def test_groups_that_only_the_mesh_tells(tmp_path: Path) -> None:
    mesh = {"names": ["dp", "tp"], "shape": [2, 1], "coordinates": {"0": [0, 0], "1": [1, 0]}}
    events = {rank: [Event(start=0, duration=1, kind="step")] for rank in (0, 1)}
    assert groups_of(write_run(tmp_path, events, mesh=mesh))[1] == (group("dp:0-1", 0, 1),)


def test_only_some_groups() -> None:
    sample = ROOT / "sample_traces" / "pp2-tp2-1f1b"
    assert groups_of(sample, ["tp:2-3"])[1] == (group("tp:2-3", 2, 3),)
    with pytest.raises(UsageError, match=r"no group 'dp:0-1' .* there is: pp:0,2, pp:1,3, tp:0-1"):
        groups_of(sample, ["dp:0-1"])


def test_a_run_without_groups_says_so(tmp_path: Path) -> None:
    events = {0: [Event(start=0, duration=1, kind="step")]}
    facts = {0: RankFacts(coordinates={})}
    with pytest.raises(UsageError, match="no group of two or more ranks"):
        groups_of(write_run(tmp_path / "run", events, facts=facts))
    with pytest.raises(UsageError, match="name the directory of a run"):
        groups_of(tmp_path / "nothing")


def test_neighbours_in_turn() -> None:
    found = [r for r in rounds([group("pp:0-3", 0, 1, 2, 3)]) if r.op == "p2p"]
    assert [[g.ranks for g in r.groups] for r in found] == [[(0, 1), (2, 3)], [(1, 2)]]
    assert found[0].of(3) == group("pp:0-3", 2, 3)
    assert found[1].of(3) is None


def test_groups_of_a_dimension_run_together_if_they_share_no_rank() -> None:
    apart = [group("tp:0-1", 0, 1), group("tp:2-3", 2, 3)]
    shared = [group("dp:0-1", 0, 1), group("dp:1-2", 1, 2)]
    found = [(r.dim, len(r.groups)) for r in rounds([*apart, *shared]) if r.op == "all_reduce"]
    assert found == [("dp", 1), ("dp", 1), ("tp", 2)]


def test_sizes() -> None:
    assert sizes(4, 64) == (4, 16, 64)
    assert sizes(4, 63) == (4, 16)
    with pytest.raises(UsageError, match="the first must be over 0"):
        sizes(0, 64)
    with pytest.raises(UsageError, match="and less"):
        sizes(65, 64)


def test_the_slowest_member_counts() -> None:
    # Batch by batch the slower of the two: 10, 30, 14. Their median is 14.
    pair = group("tp:0-1", 0, 1)
    timings = [
        Timing(group=pair, op="all_reduce", bytes=8, iterations=3, batches=batches)
        for batches in ((10.0, 30.0, 12.0), (9.0, 11.0, 14.0))
    ]
    assert [ns for _, ns in slowest_members(timings)] == [14.0]
