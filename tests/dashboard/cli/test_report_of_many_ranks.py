"""Of very many ranks the report prints means and the furthest, on paper and of a simulated run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.generate import simulated
from benchmarks.simulated.training import Straggler
from benchmarks.simulated.writing import Hosts, write_run
from dashboard.cli.abridged import FURTHEST, MOST_ROWS, furthest, is_shorter, largest, peers_of
from dashboard.cli.command_line import rankscope
from dashboard.cli.report_tables import _natural, _together

RANKS = 48
SLOW = 13
STEPS = 3


def test_the_furthest_from_their_peers_are_found() -> None:
    """Medians of 10 and 90: the last is 3 away from its peers, the others are where theirs are."""
    numbers = np.array([[10.0, 5], [10, 5], [90, 0], [13, 5]])
    assert peers_of(["a", "a", "b", "a"]) == [[0, 1, 3], [2]]
    assert furthest(numbers, [[0, 1, 3], [2]]) == [3]
    many = np.append(np.zeros(100), [3.0, -2.0])[:, None]
    assert furthest(many, [range(102)]) == [100, 101]
    different = np.arange(100.0)[:, None]
    assert furthest(different, [range(100)]) == [*range(6), *range(94, 100)]
    assert not is_shorter(MOST_ROWS, [range(MOST_ROWS)])
    assert is_shorter(MOST_ROWS + 1, [range(MOST_ROWS + 1)])
    assert not is_shorter(40, [[place] for place in range(40)]), "each is alone"
    assert largest(np.array([0.0, 2, -1, 3])) == [1, 3]


def test_groups_of_a_kind_together_have_all_bytes_over_all_time() -> None:
    """100 bytes in 100 ns, and 300 in 100: 400 in 200, whatever the mean of 1 and 3 is. Free of
    skew only those count that lasted: 10 bytes in 10 ns and 300 in 3.
    """
    row = {
        "dim": "tp", "group": "tp:0-1", "op": "all_reduce", "count": 1, "incomplete": 0,
        "bytes_total": 100, "bytes_lasting": 10, "bytes_median": 100.0, "skew_ns_mean": 10.0,
        **dict.fromkeys(("algbw_seen", "busbw_seen", "algbw_skew_free", "busbw_skew_free"), 1.0),
    }  # fmt: skip
    other = row | {
        "bytes_total": 300, "bytes_lasting": 300, "count": 3, "skew_ns_mean": 30.0,
        "algbw_seen": 3.0, "busbw_skew_free": 100.0,
    }  # fmt: skip
    found = _together([row, other])
    assert found["group"] == "tp×2"
    assert found["algbw_seen"] == 400 / 200
    assert found["busbw_skew_free"] == pytest.approx(310 / 13)
    assert found["skew_ns_mean"] == (10 + 3 * 30) / 4
    assert _together([row | {"skew_ns_mean": None}])["skew_ns_mean"] is None
    assert _together([row | {"busbw_seen": None}])["busbw_seen"] is None


def test_names_sort_as_people_count() -> None:
    assert sorted(["dp=10", "dp=2", "dp=1"], key=_natural) == ["dp=1", "dp=2", "dp=10"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 ranks, of which one is slow."""
    slow = Straggler(rank=SLOW, first=0, end=STEPS, slow=2.0)
    training = simulated(pipeline=2, tensor=2, data=12, microbatches=2, stragglers=(slow,))
    path = tmp_path_factory.mktemp("many") / "run"
    write_run(path, training, steps=STEPS, hosts=Hosts(ranks_per_host=RANKS))
    return path


def printed(*arguments: str | Path) -> str:
    done = CliRunner().invoke(rankscope, ["report", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_means_and_the_furthest_stand_for_all(run: Path) -> None:
    """The mean of a stage is that of its ranks' lines, and the slow rank has its own."""
    few, every = printed(run), printed(run, "--all")
    assert len(few.splitlines()) < 120 < len(every.splitlines())
    assert f"{FURTHEST} of {RANKS} ranks: those furthest" in few
    assert "those furthest" not in every
    steps = {int(m[1]): float(m[2]) for m in re.finditer(r"^ +(\d+) +([\d.]+) +\d", every, re.M)}
    assert RANKS == len(steps) > MOST_ROWS
    for stage in (0, 1):
        mine = [steps[rank] for rank in range(24 * stage, 24 * (stage + 1))]
        said, *_ = re.findall(rf"stage {stage}, mean of 24 +([\d.]+)", few)
        assert float(said) == pytest.approx(np.mean(mine), abs=0.01)
    assert re.search(rf"stage 0, rank {SLOW} ", few)
    assert "tp×24 " in few
