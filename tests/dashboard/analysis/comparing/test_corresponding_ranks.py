"""How ranks of two runs correspond."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import Run, open_run
from dashboard.analysis.comparing.corresponding_ranks import match
from tests.support.toy import Event, RankFacts, write_run


def pipeline(path: Path, stages: list[tuple[int, ...]], *, tp: int = 1) -> Run:
    """A rank per entry and tensor-parallel index; `stages[pp]` are what it holds."""
    facts, coordinates = {}, {}
    for pp, held in enumerate(stages):
        for index in range(tp):
            rank = pp * tp + index
            facts[rank] = RankFacts(coordinates={"pp": pp, "tp": index}, stages=held)
            coordinates[str(rank)] = [pp, index]
    mesh = {"names": ["pp", "tp"], "shape": [len(stages), tp], "coordinates": coordinates}
    events = {rank: [Event(start=0, duration=9, kind="step")] for rank in facts}
    return open_run(write_run(path, events, facts=facts, mesh=mesh))


def test_equal_meshes_match_by_coordinates(tmp_path: Path) -> None:
    a, b = (pipeline(tmp_path / name, [(0,), (1,)]) for name in "ab")
    found = match(a, b)
    assert (found.a, found.b, found.note) == ({0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}, "")


def test_more_ranks_per_stage_match_by_stage(tmp_path: Path) -> None:
    a = pipeline(tmp_path / "a", [(0,), (1,)])
    b = pipeline(tmp_path / "b", [(0,), (1,)], tp=2)
    found = match(a, b)
    assert found.b == pytest.approx({0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25})
    assert found.same_stages
    assert "by pipeline stage" in found.note


def test_another_number_of_stages_matches_by_role(tmp_path: Path) -> None:
    a = pipeline(tmp_path / "a", [(0,), (1,), (2,), (3,)])
    b = pipeline(tmp_path / "b", [(0,), (1,), (2,)])
    found = match(a, b)
    # Two of A's four ranks are between first and last stage; B has one such rank.
    assert found.a == {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}
    assert found.b == {0: 0.25, 1: 0.5, 2: 0.25}
    assert not found.same_stages
    assert "by role" in found.note


def test_interleaved_stages_match_by_role_on_the_ranks_that_hold_the_ends(tmp_path: Path) -> None:
    a = pipeline(tmp_path / "a", [(0,), (1,), (2,)])
    b = pipeline(tmp_path / "b", [(0, 3), (1, 4), (2, 5)])
    # Equal meshes: coordinates say who is who, but stage 1 is not the same part of the model.
    assert match(a, b).note == ""
    assert not match(a, b).same_stages
    wider = pipeline(tmp_path / "c", [(0, 4), (1, 5), (2, 6), (3, 7)])
    assert match(a, wider).b == pytest.approx({0: 1 / 3, 1: 1 / 6, 2: 1 / 6, 3: 1 / 3})


def test_as_many_ranks_in_another_mesh_are_not_matched_by_coordinates(tmp_path: Path) -> None:
    a = pipeline(tmp_path / "a", [(0,), (1,), (2,), (3,)])
    b = pipeline(tmp_path / "b", [(0,), (1,)], tp=2)
    assert "means over all ranks" in match(a, b).note
    assert match(a, b).b == pytest.approx(dict.fromkeys(range(4), 0.25))


def test_a_lost_rank_is_left_out_of_both(tmp_path: Path) -> None:
    a, b = (pipeline(tmp_path / name, [(0,), (1,), (2,)]) for name in "ab")
    (b.path / "rank-00001.arrows").unlink()
    found = match(a, open_run(b.path))
    assert (found.a, found.b) == ({0: 0.5, 2: 0.5}, {0: 0.5, 2: 0.5})
    assert "1 ranks are in one run only" in found.note
