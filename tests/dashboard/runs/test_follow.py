"""A run that is being recorded: cut off anywhere, growing, quiet, closed, restarted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.run import Run, open_run
from dashboard.runs.follow import ENDED, LIVE, QUIET, QUIET_AFTER_S, WAITING, Follower
from tests.test_repo.markdown import ROOT
from tracer.run_files import read_rank_facts

SAMPLE = ROOT / "sample_traces" / "pp4-gpipe"
RANKS = 4
WHOLE = open_run(SAMPLE)
BYTES = [(SAMPLE / f"rank-{rank:05}.arrows").read_bytes() for rank in range(RANKS)]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, shares: list[float], *, ended: bool = False) -> None:
    """The sample as far as each rank has written it."""
    path.mkdir(exist_ok=True)
    shutil.copy(SAMPLE / "run.json", path)
    for rank, share in enumerate(shares):
        name = f"rank-{rank:05}"
        (path / f"{name}.arrows").write_bytes(BYTES[rank][: round(share * len(BYTES[rank]))])
        facts = json.loads((SAMPLE / f"{name}.json").read_text())
        (path / f"{name}.json").write_text(json.dumps(facts | ({} if ended else {"ended": None})))


@settings(max_examples=25, deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=RANKS, max_size=RANKS))
def test_cut_anywhere_it_shows_whole_steps_of_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, shares: list[float]
) -> None:
    path = tmp_path_factory.mktemp("cut") / "run"
    write(path, shares)
    follower = Follower(path, Run)
    run = follower.look()
    if run is None:
        assert follower.status.state == WAITING
        assert follower.status.said, "why it cannot be read yet"
        return
    assert follower.status.state == LIVE
    assert run.problems == () or {p.rank for p in run.problems} <= {*range(RANKS)} - {*run.ranks}
    assert run.steps == WHOLE.steps[: len(run.steps)] or len(run.ranks) < RANKS
    for rank in run.ranks:
        found = run.events(ranks=[rank], columns=["start", "duration", "name"])
        whole = WHOLE.events(ranks=[rank], columns=["start", "duration", "name"])
        # Each event is where it will be, so that a selection of it stays.
        begins = found["start"][0].as_py() if found.num_rows else 0
        shift = whole["start"][0].as_py() - begins
        assert [
            (row["start"] + shift, row["duration"], row["name"]) for row in found.to_pylist()
        ] == [
            (row["start"], row["duration"], row["name"])
            for row in whole.slice(0, found.num_rows).to_pylist()
        ] or not _has_step(run, rank)


def _has_step(run: Run, rank: int) -> bool:
    return bool(run.events(ranks=[rank], kinds=["step"]).num_rows)


def test_from_nothing_to_the_end(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "run"
    follower = Follower(path, Run, clock=clock)
    assert follower.look() is None
    assert follower.status.state == WAITING

    write(path, [0.5] * RANKS)
    half = follower.look()
    assert half is not None
    assert follower.status.state == LIVE
    assert follower.status.steps == len(half.steps)
    assert follower.look() is None, "nothing has changed"
    generation = follower.status.generation

    clock.now += QUIET_AFTER_S
    quiet = follower.look()
    assert quiet is not None
    assert follower.status.state == QUIET
    # What the ranks were doing when they stopped is shown now.
    assert quiet.events().num_rows >= half.events().num_rows
    assert follower.look() is None

    write(path, [1.0] * RANKS, ended=True)
    whole = follower.look()
    assert whole is not None
    assert follower.status.state == ENDED
    assert follower.status.generation > generation
    assert whole.events().equals(WHOLE.events())
    assert follower.look() is None


def test_a_restarted_training_is_taken_up(tmp_path: Path) -> None:
    write(tmp_path / "run", [0.5] * RANKS)
    follower = Follower(tmp_path / "run", Run)
    assert follower.look() is not None
    write(tmp_path / "run.restart-1", [0.7] * RANKS)
    run = follower.look()
    assert run is not None
    assert run.path.name == "run.restart-1"
    assert follower.status.said == "restarted: this is run.restart-1"
    write(tmp_path / "run", [0.6] * RANKS)
    assert follower.look() is None, "the attempt before is over"


def test_the_facts_of_the_sample_say_that_it_is_closed() -> None:
    """What the tests above set to None."""
    assert {read_rank_facts(SAMPLE, rank).ended for rank in range(RANKS)} == {"closed"}
