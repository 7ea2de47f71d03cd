"""The commands as a user runs them: output, JSON, errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.cli.run import with_tracer
from tests.support.launching import run_python
from tests.support.pipeline_toy import write_pipeline
from tests.support.toy import Event, RankFacts, write_run
from tracer.errors import UsageError

RANKSCOPE = str(Path(sys.executable).with_name("rankscope"))


def rankscope(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RANKSCOPE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_pipeline(tmp_path_factory.mktemp("cli") / "toy", steps=3))


def test_report_prints_the_numbers_of_the_paper_example(path: str) -> None:
    done = rankscope("report", path)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "0 0.13 0.06 46.2% 0.00 1.5% 0.06 49.2% 0.00 3.1% 100.0%" in lines
    assert "bubble of window 51.6 % 50.0 % 50.0 %" in lines
    assert "bubble over ideal 106.7 % 100.0 % 100.0 %" in lines
    assert any(line.startswith("pp:0-2 p2p 24 4.0 kB") for line in lines)
    assert "idle 50 % of the window by design" in " ".join(done.stdout.split())
    assert "\x1b[" not in done.stdout


def test_a_report_with_every_category_fits_100_columns_and_loses_no_digit(tmp_path: Path) -> None:
    # Of each step of 1,000 ms: compute 400, optimizer 50, tp, pp and dp 40 each, two groups of
    # other dimensions 40 each, data and host 40 each; 270 are left.
    groups = ["tp:0", "pp:0", "dp:0", "ep:0", "world:0"]
    spans = [
        (0, 400, "forward", None),
        (400, 50, "optimizer", None),
        *((450 + 50 * i, 40, "collective", group) for i, group in enumerate(groups)),
        (750, 40, "data", None),
        (800, 40, "user", None),
        (990, 1, "kernel", None),
    ]
    rows = [Event(start=0, duration=1000, kind="step")] + [
        Event(
            start=start, duration=duration, kind=kind, name="reduce_scatter", group=group,
            seq=0 if group else None, bytes=123_456_789, correlation=start,
            lane="device:7" if kind in ("forward", "optimizer", "kernel") else "host:main",
        )
        for start, duration, kind, group in spans
    ]  # fmt: skip
    facts = RankFacts(
        coordinates={}, groups={g: {"dim": g.partition(":")[0], "ranks": [0]} for g in groups}
    )
    wide = write_run(tmp_path / "wide", {0: rows}, facts={0: facts}, scale=1_000_000)
    printed = rankscope("report", str(wide)).stdout.splitlines()
    assert max(map(len, printed)) <= 100
    lines = [" ".join(line.split()) for line in printed]
    assert "0 1,000.00 400.00 50.00 40.00 40.00 40.00 80.00 40.00 40.00 270.00" in lines
    assert "0 40.0% 5.0% 4.0% 4.0% 4.0% 8.0% 4.0% 4.0% 27.0% 100.0%" in lines
    assert any(line.startswith("world:0 reduce_scatter 1 123.5 MB") for line in lines)


def test_report_as_json(path: str) -> None:
    done = rankscope("report", path, "--json", "--step", "1:")
    found = json.loads(done.stdout)
    assert found["run"]["steps"] == [0, 1, 2]
    assert {row["step"] for row in found["accounting"]["table"]} == {1, 2}
    assert found["bubbles"]["theory"]["over_ideal"] == 1.0
    assert found["bandwidth"]["summary"][0]["op"] == "p2p"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "/nowhere"], "rankscope: /nowhere: no such run directory"),
        (["dashboard", "/nowhere"], "rankscope: /nowhere: no such run directory"),
        (["compare", "/nowhere", "/nowhere"], "rankscope: /nowhere: no such run directory"),
        (["report", "{path}", "--step", "7:9"], "no complete step in 7:9; complete steps: 0 to 2"),
        (["report", "{path}", "--step", "x"], "'x' is not a range of steps"),
        (["compare", "{path}", "{path}", "--fail-on", "so"], "--fail-on 'so': write WHAT>LIMIT"),
        (["compare", "{path}", "{path}", "--fail-on", "x>1%"], "no 'x' here; there are step_time"),
        (["compare", "{path}"], "compare needs at least two runs"),
        (["query", "{path}", "drop table events"], "a query is one SELECT statement"),
        (["run", "--out", "x", "--", "ls"], "ls: expected torchrun"),
        (["nonsense"], "No such command 'nonsense'"),
        ([], "Record:"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_code_2(
    path: str, arguments: list[str], said: str
) -> None:
    done = rankscope(*(argument.replace("{path}", path) for argument in arguments))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_report_shows_what_is_readable_and_names_the_rest(path: str, tmp_path: Path) -> None:
    damaged = write_pipeline(tmp_path / "damaged", steps=2)
    (damaged / "rank-00001.arrows").unlink()
    done = rankscope("report", str(damaged))
    assert done.returncode == 0
    assert "! rank-00001.arrows: missing" in done.stdout
    assert "2 of 3 ranks" in done.stdout


def test_compare_of_a_run_with_itself_is_fine(path: str) -> None:
    done = rankscope("compare", path, path, "--fail-on", "step_time>0%")
    assert done.returncode == 0
    assert "step time" in done.stdout


def test_compare_gate_fails_with_exit_code_1(path: str, tmp_path: Path) -> None:
    rows = {
        rank: [Event(start=500 * n, duration=500, kind="step", step=n) for n in range(4)]
        for rank in range(3)
    }
    facts = {rank: RankFacts(coordinates={"pp": rank}, stages=(rank,)) for rank in rows}
    slow = write_run(tmp_path / "slow", rows, facts=facts, scale=1000)
    done = rankscope("compare", path, str(slow), "--fail-on", "step_time>2%")
    assert done.returncode == 1
    assert "step_time grew by 284.62 %, more than 2 %" in done.stderr
    assert rankscope("compare", path, str(slow), "--fail-on", "step_time>300%").returncode == 0


def test_compare_takes_steps_and_several_runs(path: str, tmp_path: Path) -> None:
    longer = str(write_pipeline(tmp_path / "longer", steps=6))
    done = rankscope("compare", longer, longer, "--step", "2:5", "--json")
    assert json.loads(done.stdout)["steps_b"] == [2, 3, 4]
    done = rankscope("compare", longer, path, "--step", "4:")
    assert done.returncode == 2
    assert f"{path}: no complete step in 4:" in done.stderr
    done = rankscope("compare", longer, path, longer, "--json", "--fail-on", "bubble_ratio>0.02")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert [row["run"] for row in found["table"]] == ["longer", "toy", "longer"]
    assert (len(found["comparisons"]), found["failed"]) == (2, [])
    assert "Step time, ms" in rankscope("compare", longer, path, longer).stdout


def test_query(path: str) -> None:
    done = rankscope("query", path, "select count(*) as n from steps", "--json")
    assert json.loads(done.stdout) == [{"n": 9}]


@pytest.mark.parametrize("command", ["", "report", "compare", "query", "run", "dashboard"])
def test_help_teaches(command: str) -> None:
    done = rankscope(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage: rankscope" in done.stdout


def test_run_puts_the_tracer_before_the_script() -> None:
    command = ("torchrun", "--nproc-per-node", "8", "train.py", "--config", "x.py")
    assert with_tracer(command, Path("runs/a"), overwrite=True) == [
        "torchrun", "--nproc-per-node", "8", "-m", "tracer", "--out", "runs/a", "--overwrite",
        "train.py", "--config", "x.py",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no script"):
        with_tracer(("torchrun", "-m", "module"), Path("x"), overwrite=False)


def test_whatif_predicts_the_paper_example(path: str) -> None:
    done = rankscope("whatif", path, "--stage", "2=50%", "--comm", "pp=inf", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["measured_ns"], found["replay_error"]) == (130_000, 0)
    assert found["predictions"][0]["scenario"] == (
        "stage 2 takes 50 % of its time, pp communication free"
    )
    # In a run of several steps, what a rank has left over helps it in the next one.
    assert found["predictions"][0]["step_ns"] <= 102_000
    table = rankscope("whatif", path)
    assert "balanced stages" in table.stdout
    assert "Measured 0.13 ms, replayed unchanged 0.13 ms: error 0 %" in table.stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--stage", "2"), "'2'; end with a share: 80%"),
        (("--stage", "two=80%"), "begins with no number of a stage"),
        (("--move", "1:2=130%"), "more than the whole stage"),
        (("--comm", "pp=-1"), "write tp=2 or dp=inf"),
        (("--comm", "tp=2", "--microbatches", "4"), "of --comm only pp goes with it"),
    ],
)
def test_whatif_says_what_is_wrong_with_an_option(
    path: str, option: tuple[str, str], said: str
) -> None:
    done = rankscope("whatif", path, *option)
    assert done.returncode == 2
    assert said in done.stderr


def test_bandwidth_tells_lines_utilization_and_each_rank(path: str) -> None:
    done = rankscope("bandwidth", path, "--peak", "pp=16", "--by-rank")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    # Messages of 4,000 B take 1 µs: 4 GB/s, a quarter of the peak; one size tells no latency.
    assert "pp:0-2 p2p 4 16 given 25.0 %" in lines
    assert any("one message size does not tell latency" in line for line in lines)
    assert "No link stands out among its peers." in lines
    assert any(line.startswith("pp:0-2 recv 4.0 kB 0 6") for line in lines)


def test_bandwidth_as_json(path: str) -> None:
    done = rankscope("bandwidth", path, "--step", "1:2", "--json")
    found = json.loads(done.stdout)
    assert found["lines"][0]["group"] == "pp:0-2"
    assert sum(row["count"] for row in found["by_rank"] if row["op"] == "recv") == 8
    assert found["peaks"] == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--peak", "tp"), "write tp=450"),
        (("--peak", "tp=-1"), "write tp=450"),
        (("--calibration", "nowhere.json"), "nowhere.json: No such file"),
    ],
)
def test_bandwidth_names_what_is_wrong(path: str, arguments: tuple[str, ...], said: str) -> None:
    done = rankscope("bandwidth", path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_first_step_that_bends_the_means_is_said_with_the_mend() -> None:
    sample = str(Path(__file__).parents[3] / "sample_traces" / "pp2-tp2-1f1b")
    for command in ("report", "critical-path"):
        said = " ".join(rankscope(command, sample).stdout.split())
        assert "! Step 0, the run's first, took" in said
        assert "longer; --step 1: leaves it out." in said
        assert "the run's first" not in rankscope(command, sample, "--step", "1:").stdout
    of_json = json.loads(rankscope("report", sample, "--json").stdout)["run"]["warm_up"]
    assert (of_json["step"], of_json["next_step"]) == (0, 1)


def test_a_directory_of_runs_names_them(path: str) -> None:
    """Who mistypes finds the name; what is no run is not named."""
    above = Path(path).parent
    (above / "no run").mkdir(exist_ok=True)
    done = rankscope("report", str(above))
    assert done.returncode == 2
    assert f"{above}: no run, but these in it are, name one: " in done.stderr
    assert path in done.stderr
    assert "no run/" not in done.stderr


def test_an_interrupted_command_says_so_and_is_no_finding() -> None:
    """Interrupted while it works, it exits as a shell has it; 1 would be a gate that failed."""
    code = (
        "import signal, os, dashboard.analysis.replay.whatif as m\n"
        "from dashboard.cli import main\n"
        "m.step_times = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "main()\n"
    )
    sample = Path(__file__).parents[3] / "sample_traces" / "pp2-tp2-1f1b"
    done = subprocess.run(
        [sys.executable, "-c", code, "whatif", str(sample)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == "rankscope: interrupted"


def test_interrupted_while_it_imports_it_says_no_more() -> None:
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from dashboard.cli import main\n"
        "main()\n"
    )
    done = run_python("-c", code, "report", expect=130)
    assert (done.stdout, done.stderr) == ("", "rankscope: interrupted\n")


def test_layouts_say_what_limits_them_in_words_that_are_explained(tmp_path: Path) -> None:
    """A microbatch takes 30 of the 65 µs that a step of one takes; 35 are outside of the plan."""
    events, at = [], 0
    for step in range(4):
        common = {"stage": 0, "microbatch": 0, "step": step}
        events += [
            Event(start=at, duration=65, kind="step", name="step", step=step),
            Event(start=at, duration=10, kind="forward", name="F", **common),
            Event(start=at + 10, duration=20, kind="backward", name="B", **common),
            Event(start=at + 30, duration=2, kind="optimizer", name="SGD.step", step=step),
        ]
        at += 65
    plan = {
        "name": "Schedule1F1B",
        "stages": 1,
        "microbatches": 1,
        "virtual_stages": 1,
        "pipeline_size": 1,
        "plan": {"0": ["0F0", "0B0"]},
    }
    run = write_run(
        tmp_path / "run",
        {0: events},
        facts={0: RankFacts(coordinates={"pp": 0}, stages=(0,))},
        mesh={"names": ["pp"], "shape": [1], "coordinates": {"0": [0]}},
        schedule=plan,
        scale=1000,
    )
    done = rankscope("layouts", str(run))
    assert done.returncode == 0, done.stderr
    assert "limit other: optimizer and other work" in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if "recorded" in line and "p1" in line)
    assert row.split()[-1] == "other"
