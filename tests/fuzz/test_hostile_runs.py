"""Whatever a run directory holds, a user gets numbers or one clear line: no crash, hang or flood.

The examples are used in child processes with a limit on memory and time. More of them, and others:
`RANKSCOPE_FUZZ_EXAMPLES=5000 RANKSCOPE_FUZZ_SEED=7 pytest tests/fuzz --timeout 0`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dashboard import open_run
from tests.fuzz.bombs import BOMBS
from tests.fuzz.child import WAYS
from tests.fuzz.crowds import CROWDS
from tests.fuzz.damage import Damaged, small_run
from tests.fuzz.values import columns_of, rank_file
from tests.support.pipeline_toy import SCHEDULE
from tracer.errors import TraceError

EXAMPLES = os.environ.get("RANKSCOPE_FUZZ_EXAMPLES", "6")
SEED = os.environ.get("RANKSCOPE_FUZZ_SEED")


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.child", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    small_run(tmp_path)
    return tmp_path / "run"


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_run_can_be_used_or_is_refused_in_words(way: str) -> None:
    seed = [] if SEED is None else ["--seed", SEED]
    done = child(way, "--examples", EXAMPLES, *seed)
    assert done.returncode == 0, done.stderr[-6000:]
    assert f"{way}: " in done.stdout


def test_a_small_file_that_claims_gigabytes_does_not_get_them() -> None:
    done = child("bombs")
    assert done.returncode == 0, done.stderr[-6000:]
    assert f"bombs: {len(BOMBS)} examples" in done.stdout


def test_thousands_of_rows_of_one_odd_kind_take_no_square_of_time_or_memory() -> None:
    done = child("crowds")
    assert done.returncode == 0, done.stderr[-6000:]
    assert f"crowds: {len(CROWDS)} examples" in done.stdout


def test_ranks_that_are_missing_in_millions_are_one_problem(run: Path) -> None:
    change(run / "run.json", world_size=8_388_608)
    (problem,) = open_run(run).problems
    assert str(problem).startswith("rank-00003.arrows … rank-8388607.arrows: missing; copy them")


@pytest.mark.parametrize("size", [10**9, 0, -1, 1e9, "3", None, True, [3]])
def test_a_world_size_that_cannot_be_is_quoted_with_the_rule(run: Path, size: object) -> None:
    change(run / "run.json", world_size=size)
    (problem,) = open_run(run).problems
    assert f"{size!r}: wanted a whole number, 1 to 8,388,608" in problem.message


def test_a_rank_beyond_the_world_is_a_problem_and_shown(run: Path) -> None:
    change(run / "run.json", world_size=2)
    opened = open_run(run)
    assert opened.ranks == (0, 1, 2)
    assert "world_size is 2, but rank-00002.arrows is here" in str(opened.problems[0])


@pytest.mark.parametrize("name", ["run.json", "rank-00001.json"])
def test_a_pipe_or_an_endless_file_is_not_read(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    assert "is not a regular file" in str(open_run(run).problems[0])
    (run / name).unlink()
    (run / name).symlink_to("/dev/zero")
    assert "is not a regular file" in str(open_run(run).problems[0])


def test_names_that_only_look_like_those_of_rank_files_are_not_ours(tmp_path: Path) -> None:
    files = small_run(tmp_path)
    odd = ("rank-٠٠٠٠١.arrows", "rank-000001.arrows", f"rank-{'9' * 40}.arrows", "rank-1.arrows")
    strange = dict.fromkeys(odd, files["rank-00000.arrows"])
    assert open_run(Damaged(files | strange, ()).write(tmp_path / "odd")).problems == ()
    with pytest.raises(TraceError, match=r"no rank-00000\.arrows or other rank files here"):
        open_run(Damaged(strange, ()).write(tmp_path / "only-odd"))


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("run.json", {"mesh": {"names": [], "shape": [3], "coordinates": {}}}, "differ in length"),
        ("run.json", {"schedule": SCHEDULE | {"microbatches": 0}}, "0: wanted a whole number, 1"),
        ("run.json", {"schedule": SCHEDULE | {"virtual_stages": -1}}, "-1: wanted a whole number"),
        ("run.json", {"schedule": SCHEDULE | {"plan": {"x": []}}}, "'x': wanted a whole number"),
        ("run.json", {"config": [["a", 1]]}, "[['a', 1]]: wanted an object"),
        ("run.json", {"config": {"a": "\ud800"}}, "surrogates not allowed"),
        ("run.json", {"link_peaks": {"pp": float("nan")}}, "nan: wanted a finite number"),
        ("run.json", {"versions": {"torch": None}}, "None: wanted text"),
        ("rank-00001.json", {"stages": [2**31]}, "2147483648: wanted a whole number"),
        ("rank-00001.json", {"dropped": 1e999}, "inf: wanted a whole number"),
        ("rank-00001.json", {"groups": {"pp:0-2": {"dim": "pp"}}}, "'ranks' is missing"),
        ("rank-00001.json", {"host": 10**400}, "wanted text"),
    ],
)
def test_a_value_that_cannot_be_is_quoted_with_the_rule(
    run: Path, file: str, values: dict[str, Any], said: str
) -> None:
    change(run / file, **values)
    problem = open_run(run).problems[0]
    assert problem.file == file
    assert said in problem.message


def test_words_of_a_file_do_not_reach_the_terminal_as_commands(run: Path) -> None:
    change(run / "rank-00001.json", ended="failed: \x1b[2J\x07\u2028gone")
    (problem,) = open_run(run).problems
    assert problem.message.endswith(r"failed: \x1b[2J\x07\u2028gone")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("duration", -1, "duration is not in 0 … 9007199254740992"),
        ("duration", 2**63 - 1, "duration is not in"),
        ("start", -(2**63), "start is not in"),
        ("step", -1, "step is not in 0"),
        ("bytes", 2**62, "bytes is not in"),
        ("start", None, "start is null"),
        ("kind", "nonsense", "kind is none of the format's"),
        ("kind", None, "kind is null"),
    ],
)
def test_a_row_that_cannot_be_is_left_out_and_said(
    tmp_path: Path, column: str, value: object, said: str
) -> None:
    files = small_run(tmp_path)
    name = "rank-00001.arrows"
    columns = columns_of(files[name])
    columns[column][5] = value
    good = open_run(tmp_path / "run").events(ranks=[1]).num_rows
    opened = open_run(Damaged(files | {name: rank_file(columns, 1)}, ()).write(tmp_path / "odd"))
    (problem,) = opened.problems
    assert str(problem).startswith(f"{name}: 1 of {good} rows cannot be: {said}")
    assert str(problem).endswith("; they are left out")
    assert opened.events(ranks=[1]).num_rows == good - 1
