"""Mesh dimensions by the names that frameworks give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import open_run
from dashboard.analysis.dimensions import coordinate, role_of
from dashboard.analysis.layouts.layout import recorded_layout
from dashboard.analysis.pipeline.actions import pipelines, places
from dashboard.analysis.replay.step_model import step_model
from tests.support.pipeline_toy import SCHEDULE, step_events
from tests.support.toy import Event, RankFacts, write_run


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("tp", "tp"), ("model", "tp"), ("TP", "tp"),
        ("pp", "pp"), ("pipe", "pp"),
        ("dp", "dp"), ("data", "dp"), ("fsdp", "dp"), ("dp_shard", "dp"), ("dp_replicate", "dp"),
        ("dp_shard_cp", "dp"),
        ("cp", "other"), ("ep", "other"), ("world", "other"), ("", "other"), ("dpx", "other"),
    ],
)  # fmt: skip
def test_roles(name: str, role: str) -> None:
    assert role_of(name) == role


def test_coordinates_of_a_role() -> None:
    assert coordinate({"dp_shard": 3, "pipe": 2}, "pp") == 2
    assert coordinate({"dp_shard": 3}, "pp") is None


def test_a_run_whose_mesh_has_other_names(tmp_path: Path) -> None:
    """The paper pipeline in a mesh of pipe 3 × dp_shard 1, with a reduction at the end."""
    events = step_events()
    for rows in events.values():
        rows.append(Event(start=126, duration=3, kind="collective", group="dp_shard:0", seq=0))
        rows[:] = [
            Event(**{**{k: getattr(row, k) for k in row.__slots__}, "group": "pipe:0-2"})
            if row.group == "pp:0-2"
            else row
            for row in rows
        ]
    facts = {
        rank: RankFacts(
            coordinates={"pipe": rank, "dp_shard": 0},
            stages=(rank,),
            groups={"pipe:0-2": {"dim": "pipe", "ranks": [0, 1, 2]}},
        )
        for rank in events
    }
    mesh = {
        "names": ["pipe", "dp_shard"], "shape": [3, 1],
        "coordinates": {str(rank): [rank, 0] for rank in events},
    }  # fmt: skip
    run = open_run(
        write_run(tmp_path / "run", events, facts=facts, mesh=mesh, schedule=SCHEDULE, scale=1000)
    )
    assert pipelines(run) == {"pipeline": (0, 1, 2)}
    assert places(run) == {0: 0, 1: 1, 2: 2}
    # As of the run with a mesh called pp: rank 0 waits 64 for its neighbours. And 3 for gradients.
    spent = {
        row["category"]: row["duration"]
        for row in run.accounting().table.to_pylist()
        if row["rank"] == 0
    }
    assert (spent["comm:pp"], spent["comm:dp"], spent["comm:other"]) == (64_000, 3_000, 0)
    assert run.bubbles().steps["bubble_over_ideal"][0].as_py() == pytest.approx(192 / 180)
    here = recorded_layout(run, step_model(run))
    assert (here.p, here.t, here.d) == (3, 1, 1)
