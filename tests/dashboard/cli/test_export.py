"""`rankscope export` as a user runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dashboard.cli.command_line import rankscope
from dashboard.export import chrome
from tests.support.pipeline_toy import write_pipeline
from tests.support.read_back import parse_perfetto, read_chrome
from tracer.errors import UsageError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(write_pipeline(tmp_path / "toy", steps=3))


def run(*arguments: str, catch: bool = False) -> Result:
    return CliRunner().invoke(rankscope, ["export", *arguments], catch_exceptions=catch)


def test_the_file_has_the_name_of_the_run_and_is_said(path: str) -> None:
    done = run(path, "--to", "perfetto")
    assert done.exit_code == 0
    written = Path("toy.pftrace").stat().st_size
    assert done.stderr == f"toy.pftrace: {written / 1000:.1f} kB\n"
    assert parse_perfetto(Path("toy.pftrace")).processes
    assert run(path, "--to", "chrome", "--step", "1", "--rank", "0,2").exit_code == 0
    rows = read_chrome(Path("toy.json.gz"))
    assert {(row["rank"], row["step"]) for row in rows} == {(0, 1), (2, 1)}


def test_csv_to_standard_output(path: str) -> None:
    done = run(path, "--to", "csv", "--table", "steps", "-o", "-")
    assert done.stdout.splitlines()[:2] == [
        '"rank","step","start","duration"',
        "0,0,0,130000",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "chrome", "--rank", "1,7"], "no events of rank 7; it has ranks 0 to 2"),
        (["--to", "chrome", "--table", "steps"], "tables go to: parquet, csv"),
        (["--to", "chrome", "-o", "-"], "cannot be written to standard output"),
        (["--to", "csv", "--table", "steps", "--table", "p2p"], "holds one table"),
        (["--to", "chrome", "-o", "toy/run.json/a.json"], "a.json: cannot be written: "),
        (["--to", "chrome", "-o", "toy"], "toy: is a directory"),
        (["--to", "parquet", "-o", "toy"], "toy: exists already"),
        (["--to", "csv", "--step", "7"], "no complete step in 7:8"),
    ],
)
def test_what_cannot_be_is_said(path: str, arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        run(path, *arguments)
    assert [p.name for p in Path().iterdir()] == ["toy"], "nothing is left behind"


def test_a_missing_package_is_said_before_anything_is_written(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("perfetto")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "perfetto", None)
    with pytest.raises(UsageError, match=r"pip install 'rankscope\[perfetto\]'"):
        run(path, "--to", "perfetto")
    assert not Path("toy.pftrace").exists()


def test_an_interrupted_export_leaves_what_was_there(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.json").write_text("before")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chrome, "_counters", interrupt)
    assert run(path, "--to", "chrome", "-o", "a.json", catch=True).exit_code == 1
    assert Path("a.json").read_text() == "before"
    assert sorted(p.name for p in Path().iterdir()) == ["a.json", "toy"]


def test_a_word_that_is_no_rank_is_bad_usage(path: str) -> None:
    done = run(path, "--to", "csv", "--rank", "x")
    assert done.exit_code == 2
    assert "'x' is not a list of ranks" in done.stderr


def test_directories_on_the_way_are_made_and_sizes_are_said_in_their_unit(path: str) -> None:
    """Whatever the format: a directory as of Parquet, or one file."""
    for to, target in (("chrome", "new/way/a.json"), ("csv", "other/a.csv"), ("parquet", "p/q")):
        done = run(path, "--to", to, "-o", target)
        assert done.exit_code == 0, done.stderr
        assert done.stderr.startswith(f"{target}: ")
        files = [file for file in Path(target).rglob("*") if file.is_file()] or [Path(target)]
        size = sum(file.stat().st_size for file in files)
        assert f": {size / 1000:.1f} kB" in done.stderr
    assert f" in {len(files)} files" in done.stderr
