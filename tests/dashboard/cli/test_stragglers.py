"""`rankscope stragglers` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dashboard.cli.command_line import rankscope
from tests.support.straggler_toy import More, Toy, in_steps

SLOW = in_steps(range(8), 1, More(work=20))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(rankscope, ["stragglers", *arguments])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(Toy(more=SLOW).write(tmp_path / "run"))


def test_it_says_who_and_what_it_costs(path: str) -> None:
    done = _run(path)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "mean of 7 steps, 0.14 ms each" in said
    assert "0.02 0.02 to 0.02 14.3 % high" in said
    assert "replayed unchanged, the steps are off by 0 %" in said


def test_as_json_with_all_evidence(path: str) -> None:
    found = json.loads(_run(path, "--json").output)
    (straggler,) = found["found"]
    assert (straggler["cause"], straggler["rank"]) == ("slow rank", 1)
    assert straggler["share"] == pytest.approx(20 / 140)
    assert straggler["evidence"][0] == {
        "rank": 1,
        "step": 1,
        "stage": None,
        "microbatch": 0,
        "name": "F",
        "start": 150_000,
        "duration": 120_000,
        "expected": 100_000,
    }


def test_what_costs_less_than_asked_for_is_left_out(path: str) -> None:
    assert json.loads(_run(path, "--json", "--min", "14%").output)["found"]
    assert json.loads(_run(path, "--json", "--min", "15%").output)["found"] == []
    assert "No straggler" in _run(path, "--min", "15%").output


def test_too_few_steps_are_no_all_clear(path: str) -> None:
    done = _run(path, "--step", "2:5")
    assert "2 steps to look at: nothing can be told of fewer than 4" in done.output
    assert "No straggler" not in done.output


def test_only_the_chosen_steps(tmp_path: Path) -> None:
    run = Toy(steps=16, more=in_steps(range(8), 1, More(work=20))).write(tmp_path / "run")
    assert json.loads(_run(str(run), "--json", "--step", ":8").output)["found"]
    assert json.loads(_run(str(run), "--json", "--step", "8:").output)["found"] == []


@pytest.mark.parametrize("least", ["5", "much", "-1%", "101%"])
def test_a_share_that_is_none_is_refused_with_the_mend(path: str, least: str) -> None:
    done = _run(path, "--min", least)
    assert done.exit_code == 2
    assert f"{least!r} is not a share of the step; write 5%" in done.output


def test_a_run_without_steps_is_told_so(tmp_path: Path) -> None:
    run = Toy(steps=0).write(tmp_path / "run")
    assert "No step is complete on every rank" in _run(str(run)).output
